//! Positions of axes, and which of them must go together: a union-find over every position of every axis of every value.

use crate::{Dim, Graph, NodeId, ValueId};

/// Axes of more positions than this are never channels.
const LONGEST: usize = 1 << 20;
/// Positions of all axes together, beyond which further axes count as one position each: no file makes this take all memory.
const MOST: usize = 1 << 25;

/// One axis of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Axis {
    /// The value.
    pub value: ValueId,
    /// Which of its axes, from 0.
    pub axis: usize,
}

/// Why positions must stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The node that needs them; `None`: the caller of the model does.
    pub node: Option<NodeId>,
    /// Completes "`axis` stays: …".
    pub reason: String,
    /// Whether they could go at the price of other outputs than the masked network's.
    pub approximate: bool,
}

/// Who is together with whom, as a forest with path halving and union by size.
#[derive(Debug, Default)]
struct Forest(Vec<(u32, u32)>);

impl Forest {
    fn push(&mut self) -> u32 {
        self.0.push((self.0.len() as u32, 1));
        (self.0.len() - 1) as u32
    }

    fn root(&mut self, mut i: u32) -> u32 {
        while self.0[i as usize].0 != i {
            let up = self.0[self.0[i as usize].0 as usize].0;
            self.0[i as usize].0 = up;
            i = up;
        }
        i
    }

    /// The root that stays and the one that goes, where they were not one.
    fn unite(&mut self, a: u32, b: u32) -> Option<(u32, u32)> {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return None;
        }
        let (stays, goes) = if self.0[a as usize].1 < self.0[b as usize].1 { (b, a) } else { (a, b) };
        self.0[stays as usize].1 += self.0[goes as usize].1;
        self.0[goes as usize].0 = stays;
        Some((stays, goes))
    }
}

/// Where the positions of one axis begin, and how many there are. An axis of unknown size has one that stands for all.
#[derive(Clone, Copy, Debug)]
struct Row {
    first: u32,
    len: u32,
    fixed: bool,
}

const NOT_PINNED: u32 = u32::MAX;

/// Every position of every axis, and what is known of it.
#[derive(Debug, Default)]
pub(crate) struct Atoms {
    /// First row of each value, and one entry behind the last.
    values: Vec<u32>,
    rows: Vec<Row>,
    positions: Forest,
    /// Index into `pins` at the root of each set.
    pinned: Vec<u32>,
    pins: Vec<Pin>,
    /// Axes that are tied position by position, whatever the positions are tied to beside that.
    axes: Forest,
    /// At the root of each set of axes: whether all positions of one of them are pinned.
    axes_pinned: Vec<bool>,
}

impl Atoms {
    /// Atoms of a graph in which nothing is tied yet.
    pub(crate) fn new(graph: &Graph) -> Atoms {
        let mut atoms = Atoms::default();
        for (_, value) in graph.values() {
            atoms.values.push(atoms.rows.len() as u32);
            for dim in value.shape.iter().flatten() {
                let fixed = dim.fixed().filter(|n| *n <= LONGEST && atoms.positions.0.len() + n <= MOST);
                let len = fixed.unwrap_or(1).max(1) as u32;
                atoms.rows.push(Row { first: atoms.positions.0.len() as u32, len, fixed: fixed.is_some_and(|n| n > 0) });
                for _ in 0..len {
                    atoms.positions.push();
                }
                atoms.axes.push();
            }
        }
        atoms.values.push(atoms.rows.len() as u32);
        atoms.pinned = vec![NOT_PINNED; atoms.positions.0.len()];
        atoms.axes_pinned = vec![false; atoms.rows.len()];
        for (id, value) in graph.values() {
            for (axis, dim) in value.shape.iter().flatten().enumerate() {
                let axis = Axis { value: id, axis };
                if *dim == Dim::Fixed(1) {
                    atoms.pin(axis, Pin { node: None, reason: "it is the only position of its axis".into(), approximate: false });
                } else if !atoms.row(axis).fixed {
                    atoms.pin(axis, Pin { node: None, reason: "the size of its axis is not known".into(), approximate: false });
                }
            }
        }
        atoms
    }

    fn index(&self, axis: Axis) -> u32 {
        self.values[axis.value.0 as usize] + axis.axis as u32
    }

    fn row(&self, axis: Axis) -> Row {
        self.rows[self.index(axis) as usize]
    }

    /// Number of positions, where it is known.
    pub(crate) fn size(&self, axis: Axis) -> Option<usize> {
        let row = self.row(axis);
        row.fixed.then_some(row.len as usize)
    }

    /// Makes two positions one.
    pub(crate) fn tie(&mut self, a: Axis, i: usize, b: Axis, j: usize) {
        let (a, b) = (self.row(a).first + i as u32, self.row(b).first + j as u32);
        if let Some((stays, goes)) = self.positions.unite(a, b) {
            self.settle(stays, goes);
        }
    }

    /// What pins one of two sets pins both; a pin without exception is worth more than an approximate one.
    fn settle(&mut self, stays: u32, goes: u32) {
        let (a, b) = (self.pinned[stays as usize], self.pinned[goes as usize]);
        self.pinned[stays as usize] = self.stronger(a, b);
    }

    fn stronger(&self, a: u32, b: u32) -> u32 {
        match (self.pins.get(a as usize), self.pins.get(b as usize)) {
            (Some(first), Some(second)) if first.approximate && !second.approximate => b,
            (Some(_), _) => a,
            (None, _) => b,
        }
    }

    /// Makes two axes one, position by position. `false` where their sizes differ or are not known.
    pub(crate) fn same(&mut self, a: Axis, b: Axis) -> bool {
        let (ra, rb) = (self.row(a), self.row(b));
        if ra.len != rb.len || ra.fixed != rb.fixed {
            return false;
        }
        for i in 0..ra.len as usize {
            self.tie(a, i, b, i);
        }
        let (a, b) = (self.index(a), self.index(b));
        if let Some((stays, goes)) = self.axes.unite(a, b) {
            self.axes_pinned[stays as usize] |= self.axes_pinned[goes as usize];
        }
        true
    }

    /// Says that one position must stay.
    pub(crate) fn pin_position(&mut self, axis: Axis, position: usize, pin: Pin) {
        let pin = self.note(pin);
        self.pin_at(self.row(axis).first + position as u32, pin);
    }

    /// Says that all positions of an axis must stay.
    pub(crate) fn pin(&mut self, axis: Axis, pin: Pin) {
        let (row, pin) = (self.row(axis), self.note(pin));
        (row.first..row.first + row.len).for_each(|i| self.pin_at(i, pin));
        let root = self.axes.root(self.index(axis));
        self.axes_pinned[root as usize] = true;
    }

    fn note(&mut self, pin: Pin) -> u32 {
        if self.pins.last() != Some(&pin) {
            self.pins.push(pin);
        }
        (self.pins.len() - 1) as u32
    }

    fn pin_at(&mut self, position: u32, pin: u32) {
        let root = self.positions.root(position) as usize;
        self.pinned[root] = self.stronger(self.pinned[root], pin);
    }

    /// A number that all axes share which are tied to this one position by position.
    pub(crate) fn axis_class(&mut self, axis: Axis) -> u32 {
        self.axes.root(self.index(axis))
    }

    /// Whether something needs all positions of an axis, or of one that is tied to it.
    pub(crate) fn axis_pinned(&mut self, axis: Axis) -> bool {
        let root = self.axes.root(self.index(axis));
        self.axes_pinned[root as usize]
    }

    /// The number of the set of each position of an axis.
    pub(crate) fn sets(&mut self, axis: Axis) -> Vec<u32> {
        let row = self.row(axis);
        (row.first..row.first + row.len).map(|i| self.positions.root(i)).collect()
    }

    /// Why a set must stay, if it must.
    pub(crate) fn pin_of(&self, set: u32) -> Option<&Pin> {
        self.pins.get(self.pinned[set as usize] as usize)
    }

    /// Number of positions of all axes together.
    pub(crate) fn len(&self) -> usize {
        self.positions.0.len()
    }
}
