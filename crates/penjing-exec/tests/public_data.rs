//! Public data sets as they are fetched, and how long a pass takes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use penjing_exec::data::{DataOptions, Dataset, Order, Preprocess, Split, SplitOptions, open};
use penjing_graph::zoo::{self, ZooOptions};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn asset(name: &str) -> PathBuf {
    let assets =
        std::env::var_os("PENJING_ASSETS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/assets"), PathBuf::from);
    let path = assets.join(name);
    assert!(path.exists(), "there is no {} (hint: scripts/assets)", path.display());
    path
}

fn sizes(set: &Dataset) -> [usize; 3] {
    [Split::Train, Split::Validation, Split::Test].map(|split| set.len(split))
}

#[test]
fn mnist_and_fashion_mnist_have_sixty_and_ten_thousand_images() -> Outcome {
    for name in ["mnist", "fashion-mnist"] {
        let set = open(&asset(name), &DataOptions::default())?;
        assert_eq!((sizes(&set), set.classes(), set.sample_shape()), ([54_000, 6_000, 10_000], Some(10), vec![1, 28, 28]), "{name}");
        let description = set.describe();
        assert_eq!(description.parts[2].class_counts.values().sum::<usize>(), 10_000);
    }
    // Fashion-MNIST has as many of each class; its first test image is an ankle boot.
    let set = open(&asset("fashion-mnist"), &DataOptions::default())?;
    assert!(set.describe().parts.iter().zip([5_400, 600, 1_000]).all(|(part, each)| part.class_counts.values().all(|n| *n == each)));
    let first = set.batches(Split::Test, 1, Order::Sequential, false).next().ok_or("no batch")??;
    assert_eq!(first.labels, Some(vec![9]));
    Ok(())
}

#[test]
fn fashion_mnist_is_fitted_to_a_network_for_cifar() -> Outcome {
    let graph = zoo::build("convnet-cifar", &ZooOptions::default())?;
    let set = open(&asset("fashion-mnist"), &DataOptions::default().for_model(&graph)?)?;
    set.check_against(&graph)?;
    assert!(set.describe().to_string().contains("resize to 32×32, to RGB, 0..255 to 0..1 (to fit the model)"), "{}", set.describe());
    Ok(())
}

#[test]
fn twenty_photographs_measure_a_model_of_a_thousand_classes() -> Outcome {
    let options = DataOptions {
        preprocess: Some(Preprocess::tf()),
        labels: Some(asset("imagenet-20/labels.csv")),
        split: SplitOptions::all_test(),
        ..DataOptions::default()
    };
    let set = open(&asset("imagenet-20"), &options)?;
    assert_eq!((sizes(&set), set.sample_shape()), ([0, 0, 20], vec![3, 224, 224]));
    set.check_against(&zoo::build("efficientnet-lite0", &ZooOptions::default())?)?;
    let batch = set.batches(Split::Test, 20, Order::Sequential, false).next().ok_or("no batch")??;
    assert_eq!(batch.labels.as_ref().map(|l| (l[0], l[19])), Some((243, 305)));
    let values = batch.inputs[0].values::<f32>().ok_or("not float32")?;
    assert_eq!(values.len(), 20 * 3 * 224 * 224);
    assert!(values.iter().all(|v| (-127.0 / 128.0..=1.0).contains(v)));
    Ok(())
}

#[test]
fn a_pass_over_mnist_takes_a_fraction_of_a_second() -> Outcome {
    let set = open(&asset("mnist"), &DataOptions::default())?;
    let begin = Instant::now();
    let mut samples = 0;
    for batch in set.batches(Split::Train, 64, Order::Shuffled { seed: 0, epoch: 0 }, false) {
        samples += batch?.indices.len();
    }
    let took = begin.elapsed();
    assert_eq!(samples, 54_000);
    // A tenth of a second on 2 cores; what is caught here is work of another order, such as decoding or reading anew in each pass.
    assert!(took < Duration::from_secs(4), "{took:?}");
    Ok(())
}
