//! The public EfficientNet-Lite0 weights on real ImageNet photographs, on the built-in executor.

use std::path::{Path, PathBuf};

use penjing_exec::cpu_executor;
use penjing_exec::data::{self, DataOptions, Order, Preprocess, Split, SplitOptions};
use penjing_graph::weights;
use penjing_graph::zoo::{self, ZooOptions};

fn asset(name: &str) -> PathBuf {
    let assets =
        std::env::var_os("PENJING_ASSETS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/assets"), PathBuf::from);
    let path = assets.join(name);
    assert!(path.exists(), "there is no {} (hint: scripts/assets)", path.display());
    path
}

#[test]
fn eighteen_of_twenty_photographs_are_named_rightly() {
    let state = weights::load(&asset("efficientnet-lite0/efficientnet-lite0-57934424.pth")).unwrap();
    let fresh = zoo::build("efficientnet-lite0", &ZooOptions::default()).unwrap();
    let mut executor = cpu_executor(&weights::apply(&fresh, &state).unwrap()).unwrap();

    let options = DataOptions {
        preprocess: Some(Preprocess::tf()),
        labels: Some(asset("imagenet-20/labels.csv")),
        split: SplitOptions::all_test(),
        ..DataOptions::default()
    };
    let photographs = data::open(&asset("imagenet-20"), &options).unwrap();
    photographs.check_against(&fresh).unwrap();
    assert_eq!(photographs.len(Split::Test), 20);
    let right = photographs.batches(Split::Test, 1, Order::Sequential, false).map(Result::unwrap).filter(|photograph| {
        let logits = executor.run(&photograph.inputs, fresh.outputs()).unwrap().remove(0);
        let logits = logits.to_f32().unwrap();
        let best = (0..logits.len() as u32).max_by(|a, b| logits[*a as usize].total_cmp(&logits[*b as usize]));
        best == photograph.labels.as_ref().map(|labels| labels[0])
    });
    assert_eq!(right.count(), 18);
}
