//! Encoded messages in pieces, so that weights are framed and written without being copied.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

/// Bytes in pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Rope {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Rope {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds the fields of a message.
    pub(super) fn fields(&mut self, message: &impl Message) {
        self.push(message.encode_to_vec().into());
    }

    /// Adds a field of bytes, or of a message in its encoded form.
    pub(super) fn bytes(&mut self, tag: u32, bytes: Bytes) {
        self.frame(tag, bytes.len());
        self.push(bytes);
    }

    /// Adds a field of a message in pieces.
    pub(super) fn message(&mut self, tag: u32, message: Rope) {
        self.frame(tag, message.len);
        self.len += message.len;
        self.pieces.extend(message.pieces);
    }

    fn frame(&mut self, tag: u32, len: usize) {
        let mut frame = BytesMut::new();
        encode_key(tag, WireType::LengthDelimited, &mut frame);
        encode_varint(len as u64, &mut frame);
        self.push(frame.freeze());
    }

    fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        self.pieces.push(piece);
    }

    pub(super) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        self.pieces.iter().try_for_each(|piece| out.write_all(piece))
    }

    /// All in one piece.
    pub(super) fn joined(&self) -> Bytes {
        let mut joined = BytesMut::with_capacity(self.len);
        self.pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
        joined.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{GraphProto, ModelProto};

    #[test]
    fn pieces_read_as_the_message_that_they_make_up() {
        let (mut model, mut graph) = (Rope::default(), Rope::default());
        graph.bytes(1, Bytes::from_static(b"node"));
        graph.fields(&GraphProto { name: "g".into(), ..GraphProto::default() });
        model.fields(&ModelProto { ir_version: Some(8), ..ModelProto::default() });
        model.message(7, graph);
        let whole = GraphProto { node: vec![Bytes::from_static(b"node")], name: "g".into(), ..GraphProto::default() };
        let whole = ModelProto { ir_version: Some(8), graph: Some(whole), ..ModelProto::default() };
        assert_eq!(model.joined(), whole.encode_to_vec());
        assert_eq!(model.len(), whole.encoded_len());
    }
}
