use super::{Pass, Verdict};
use crate::ops::{Binary, MatMul, Op};
use crate::{DataType, Edit, Graph, NodeId, Tensor};

/// Makes a `MatMul` and an `Add` of each `Gemm` with a constant weight, which is then stored as [K, N]: the form that runtimes have
/// kernels of codes for. The `MatMul` keeps the node's name, the `Add` the output's.
#[derive(Clone, Copy, Debug)]
pub struct GemmToMatMul;

impl Pass for GemmToMatMul {
    fn name(&self) -> &'static str {
        "gemm-to-matmul"
    }

    fn visit(&self, graph: &Graph, id: NodeId) -> Verdict {
        let node = graph.node(id);
        let Op::Gemm(gemm) = &node.op else { return Verdict::NoMatch };
        let (Some(x), Some(w)) = (node.input(0), node.input(1)) else { return Verdict::Skip("an input is left out") };
        if gemm.trans_a {
            return Verdict::Skip("it transposes what it reads");
        }
        if gemm.alpha != 1.0 || (node.input(2).is_some() && gemm.beta != 1.0) {
            return Verdict::Skip("it scales what it adds up");
        }
        let Some(tensor) = graph.constant(w).filter(|tensor| tensor.dtype() == DataType::Float) else {
            return Verdict::Skip("its weight is not of constant 32-bit floats");
        };
        let mut edit = Edit::new(graph, format!("make a product of `{}`", node.name));
        let weight = match (gemm.trans_b, graph.uses(w)) {
            (false, _) => w,
            (true, 1) => {
                edit.set_tensor(w, transposed(tensor));
                w
            }
            (true, _) => edit.add_tensor(format!("{}.weight", node.name), transposed(tensor)),
        };
        edit.set_op(id, MatMul, vec![Some(x), Some(weight)]);
        if let Some(bias) = node.input(2) {
            edit.insert_behind((id, 0), format!("{}.Add", node.name), Binary::Add, &[bias], format!("{}.product", node.name));
        }
        Verdict::Apply(edit)
    }
}

/// [N, K] → [K, N]
fn transposed(tensor: &Tensor) -> Tensor {
    let (n, k) = (tensor.dims()[0], tensor.dims()[1]);
    let values = tensor.to_f32().unwrap_or_default();
    Tensor::new([k, n], (0..k * n).map(|i| values[i % n * k + i / n]).collect())
}
