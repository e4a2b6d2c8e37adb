//! Rewrites that leave what a graph computes as it is, one file each.
//!
//! A [`Pass`] looks at one node and proposes an edit, or says why not; only [`Graph::apply`] changes anything.
//! [`raise_opset`] and [`fold_known_integers`] concern all nodes at once and are functions of their own.

mod drop_identity;
mod fold_batch_norm;
mod fold_known_integers;
mod gemm_to_matmul;
mod raise_opset;

use crate::{Edit, Graph, GraphError, NodeId};

pub use drop_identity::DropIdentity;
pub use fold_batch_norm::FoldBatchNorm;
pub use fold_known_integers::fold_known_integers;
pub use gemm_to_matmul::GemmToMatMul;
pub use raise_opset::raise_opset;

/// Every pass that makes a graph simpler, in an order in which each finds what the ones before it uncover.
pub const ALL: &[&dyn Pass] = &[&DropIdentity, &FoldBatchNorm];

/// A rewrite around one node.
pub trait Pass: Sync {
    /// Name for logs and options.
    fn name(&self) -> &'static str;

    /// What to do about `node`.
    fn visit(&self, graph: &Graph, node: NodeId) -> Verdict;
}

/// What a pass says about one node.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The node is none of those that the pass is about.
    NoMatch,
    /// The node is, but must stay as it is; the reason completes "node `x`: …".
    Skip(&'static str),
    /// The change.
    Apply(Edit),
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Nodes about which an edit was applied, by name.
    pub applied: Vec<String>,
    /// Nodes that had to stay, by name, and why.
    pub skipped: Vec<(String, &'static str)>,
}

/// Visits every node once, in running order, and applies what the pass proposes before it goes on to the next.
///
/// # Errors
/// When the graph refuses an edit. It is then as the edits before it left it.
pub fn run(pass: &dyn Pass, graph: &mut Graph) -> Result<Report, GraphError> {
    let mut report = Report::default();
    let nodes: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
    for id in nodes {
        // An earlier edit of this pass may have taken the node along.
        let Some(node) = graph.find_node(id) else { continue };
        let name = node.name.clone();
        match pass.visit(graph, id) {
            Verdict::NoMatch => {}
            Verdict::Skip(reason) => report.skipped.push((name, reason)),
            Verdict::Apply(edit) => {
                graph.apply(edit)?;
                report.applied.push(name);
            }
        }
    }
    Ok(report)
}
