//! Attributes of a node, each accounted for: what nobody read makes the node opaque.

use std::fmt::Display;

use bytes::Bytes;

use crate::Tensor;
use crate::onnx::proto::{AttributeProto, AttributeType, NodeProto};

/// Reads the attributes of one node.
pub(crate) struct Attributes<'a> {
    /// Version of ONNX's own operator set that the node is written for.
    pub(crate) opset: i64,
    node: &'a NodeProto,
    unread: Vec<&'a AttributeProto>,
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(node: &'a NodeProto, opset: i64) -> Attributes<'a> {
        Attributes { opset, node, unread: node.attribute.iter().collect() }
    }

    /// Number of outputs that the node gives.
    pub(crate) fn outputs(&self) -> usize {
        self.node.output.iter().filter(|name| !name.is_empty()).count()
    }

    fn take(&mut self, name: &str, kind: AttributeType) -> Result<Option<&'a AttributeProto>, String> {
        let Some(at) = self.unread.iter().position(|a| a.name == name) else { return Ok(None) };
        let attribute = self.unread.remove(at);
        if !attribute.ref_attr_name.is_empty() {
            return Err(format!("attribute `{name}` is an argument of a function"));
        }
        // The oldest files leave the type out.
        if attribute.r#type() != kind && attribute.r#type() != AttributeType::Undefined {
            return Err(format!("attribute `{name}` is not of the type that the operator needs"));
        }
        Ok(Some(attribute))
    }

    pub(crate) fn int_or_none(&mut self, name: &str) -> Result<Option<i64>, String> {
        Ok(self.take(name, AttributeType::Int)?.map(AttributeProto::i))
    }

    pub(crate) fn int(&mut self, name: &str, default: i64) -> Result<i64, String> {
        Ok(self.int_or_none(name)?.unwrap_or(default))
    }

    pub(crate) fn required_int(&mut self, name: &str) -> Result<i64, String> {
        self.int_or_none(name)?.ok_or_else(|| format!("attribute `{name}` is missing"))
    }

    pub(crate) fn flag(&mut self, name: &str, default: bool) -> Result<bool, String> {
        match self.int_or_none(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(n) => Err(unexpected(name, n)),
        }
    }

    /// A number that is at least 1.
    pub(crate) fn count(&mut self, name: &str, default: usize) -> Result<usize, String> {
        match self.int_or_none(name)? {
            None => Ok(default),
            Some(n) => usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| unexpected(name, n)),
        }
    }

    pub(crate) fn float_or_none(&mut self, name: &str) -> Result<Option<f32>, String> {
        Ok(self.take(name, AttributeType::Float)?.map(AttributeProto::f))
    }

    pub(crate) fn float(&mut self, name: &str, default: f32) -> Result<f32, String> {
        Ok(self.float_or_none(name)?.unwrap_or(default))
    }

    pub(crate) fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, String> {
        Ok(self.take(name, AttributeType::Ints)?.map(|a| a.ints.clone()))
    }

    pub(crate) fn required_ints(&mut self, name: &str) -> Result<Vec<i64>, String> {
        self.ints(name)?.ok_or_else(|| format!("attribute `{name}` is missing"))
    }

    /// Numbers that are at least `least`; `None` where the attribute is absent.
    pub(crate) fn sizes_or_none(&mut self, name: &str, least: usize) -> Result<Option<Vec<usize>>, String> {
        let size = |n: i64| usize::try_from(n).ok().filter(|n| *n >= least).ok_or_else(|| unexpected(name, n));
        self.ints(name)?.map(|ints| ints.into_iter().map(size).collect()).transpose()
    }

    /// Numbers that are at least `least`; empty where the attribute is absent.
    pub(crate) fn sizes(&mut self, name: &str, least: usize) -> Result<Vec<usize>, String> {
        Ok(self.sizes_or_none(name, least)?.unwrap_or_default())
    }

    pub(crate) fn text(&mut self, name: &str, default: &'a str) -> Result<&'a str, String> {
        match self.take(name, AttributeType::String)? {
            None => Ok(default),
            Some(a) => std::str::from_utf8(a.s()).map_err(|_| format!("attribute `{name}` is not UTF-8")),
        }
    }

    pub(crate) fn tensor(&mut self, name: &str) -> Result<Option<Tensor>, String> {
        let Some(attribute) = self.take(name, AttributeType::Tensor)? else { return Ok(None) };
        let proto = attribute.t.as_ref().ok_or_else(|| format!("attribute `{name}` holds no tensor"))?;
        crate::onnx::tensor_from_proto(proto).map(Some).map_err(|reason| format!("attribute `{name}`: {reason}"))
    }

    /// Checks that nothing was left unread.
    pub(crate) fn finish(self) -> Result<(), String> {
        match self.unread.first() {
            None => Ok(()),
            Some(attribute) => Err(format!("attribute `{}` is unknown", attribute.name)),
        }
    }
}

/// The reason why `value` cannot stand in attribute `name`.
pub(crate) fn unexpected(name: &str, value: impl Display) -> String {
    format!("attribute `{name}` has the unknown value {value}")
}

/// The attributes of a node to be written; those at their default are left out.
#[derive(Debug, Default)]
pub(crate) struct AttributeList(pub(crate) Vec<AttributeProto>);

impl AttributeList {
    fn push(&mut self, name: &str, kind: AttributeType, value: AttributeProto) {
        self.0.push(AttributeProto { name: name.into(), r#type: Some(kind as i32), ..value });
    }

    pub(crate) fn int(&mut self, name: &str, value: i64, default: i64) {
        self.int_or_none(name, Some(value).filter(|v| *v != default));
    }

    pub(crate) fn int_or_none(&mut self, name: &str, value: Option<i64>) {
        if value.is_some() {
            self.push(name, AttributeType::Int, AttributeProto { i: value, ..Default::default() });
        }
    }

    pub(crate) fn flag(&mut self, name: &str, value: bool, default: bool) {
        self.int(name, value.into(), default.into());
    }

    pub(crate) fn float(&mut self, name: &str, value: f32, default: f32) {
        self.float_or_none(name, Some(value).filter(|v| *v != default));
    }

    pub(crate) fn float_or_none(&mut self, name: &str, value: Option<f32>) {
        if value.is_some() {
            self.push(name, AttributeType::Float, AttributeProto { f: value, ..Default::default() });
        }
    }

    pub(crate) fn ints(&mut self, name: &str, value: Option<&[i64]>) {
        if let Some(ints) = value {
            self.push(name, AttributeType::Ints, AttributeProto { ints: ints.into(), ..Default::default() });
        }
    }

    /// Numbers, left out where there are none.
    pub(crate) fn sizes(&mut self, name: &str, value: &[usize]) {
        let ints: Vec<i64> = value.iter().map(|n| *n as i64).collect();
        self.ints(name, Some(&ints[..]).filter(|n| !n.is_empty()));
    }

    pub(crate) fn text(&mut self, name: &str, value: &str, default: &str) {
        if value != default {
            let s = Some(Bytes::copy_from_slice(value.as_bytes()));
            self.push(name, AttributeType::String, AttributeProto { s, ..Default::default() });
        }
    }

    pub(crate) fn tensor(&mut self, name: &str, value: Option<&Tensor>) {
        if let Some(tensor) = value {
            let t = Some(crate::onnx::tensor_to_proto(tensor));
            self.push(name, AttributeType::Tensor, AttributeProto { t, ..Default::default() });
        }
    }
}
