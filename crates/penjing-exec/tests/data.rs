//! Data sets that other tools made (`testdata/data.py`), read through the public door; and files that lie.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use penjing_exec::ExecError;
use penjing_exec::data::{Augment, Batch, DataOptions, Dataset, Filter, Order, Preprocess, Resize, Split, SplitOptions, open};
use penjing_graph::ops::Flatten;
use penjing_graph::{DataType, Dim, Graph, GraphBuilder};
use proptest::prelude::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const PARTS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/data").join(name)
}

/// Values as the files hold them.
fn raw() -> DataOptions {
    DataOptions { preprocess: Some(Preprocess::none()), ..DataOptions::default() }
}

fn all_test() -> DataOptions {
    DataOptions { split: SplitOptions::all_test(), ..raw() }
}

/// A whole split in one batch.
fn whole(set: &Dataset, split: Split) -> Result<Batch, ExecError> {
    set.batches(split, set.len(split), Order::Sequential, false).next().expect("the split is not empty")
}

fn values(batch: &Batch) -> Vec<f32> {
    batch.inputs[0].values::<f32>().expect("inputs are float32").into_owned()
}

fn sizes(set: &Dataset) -> [usize; 3] {
    PARTS.map(|split| set.len(split))
}

/// Image `i` of the script: 16 i + 4 y + x, in 4×4.
fn gradient(i: usize) -> Vec<f32> {
    (0..16).map(|p| (16 * i + p) as f32).collect()
}

fn refusal(path: &Path, options: &DataOptions) -> String {
    match open(path, options) {
        Ok(set) => panic!("{} was accepted: {}", path.display(), set.describe()),
        Err(e) => e.to_string(),
    }
}

#[test]
fn idx_with_its_own_test_set() -> Outcome {
    let set = open(&testdata("idx"), &raw())?;
    assert_eq!((sizes(&set), set.classes(), set.sample_shape()), ([18, 2, 4], Some(2), vec![1, 4, 4]));
    let test = whole(&set, Split::Test)?;
    assert_eq!(test.inputs[0].dims(), [4, 1, 4, 4]);
    assert_eq!(values(&test), (0..4).flat_map(gradient).collect::<Vec<_>>());
    assert_eq!((&test.labels, &test.indices), (&Some(vec![0, 1, 0, 1]), &vec![20, 21, 22, 23]));
    let train = whole(&set, Split::Train)?;
    for (i, (image, label)) in train.indices.iter().zip(values(&train).chunks(16).zip(train.labels.iter().flatten())) {
        assert_eq!((image, *label as usize), (&gradient(i % 16)[..], i % 2));
    }
    // Without an option, 0..255 becomes 0..1.
    let scaled = whole(&open(&testdata("idx"), &DataOptions::default())?, Split::Test)?;
    assert!(values(&scaled).iter().zip(values(&test)).all(|(a, b)| (a - b / 255.0).abs() < 1e-7));
    Ok(())
}

#[test]
fn arrays_of_every_kind_hold_the_same_numbers() -> Outcome {
    let expected: Vec<f32> = (0..36).map(|v| v as f32 / 8.0).collect();
    for name in ["arrays.npz", "fortran.npz", "big_endian.npz", "half.npz", "npy", "arrays.safetensors", "table.csv"] {
        let set = open(&testdata(name), &all_test())?;
        let batch = whole(&set, Split::Test)?;
        assert_eq!((set.sample_shape(), values(&batch)), (vec![3], expected.clone()), "{name}");
        assert_eq!(batch.labels, Some((0..12).map(|i| i % 3).collect()), "{name}");
    }
    for name in ["unlabelled.npz", "npy/x.npy"] {
        let set = open(&testdata(name), &all_test())?;
        assert_eq!((values(&whole(&set, Split::Test)?), set.classes()), (expected.clone(), None), "{name}");
    }
    Ok(())
}

#[test]
fn keras_arrays_keep_their_test_samples_and_their_integers() -> Outcome {
    let set = open(&testdata("keras.npz"), &DataOptions::default())?;
    assert_eq!((sizes(&set), set.sample_shape()), ([18, 2, 4], vec![4, 4]));
    assert_eq!(values(&whole(&set, Split::Test)?), (0..4).flat_map(gradient).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn cifar_binary() -> Outcome {
    let set = open(&testdata("cifar10"), &raw())?;
    assert_eq!((sizes(&set), set.classes(), set.sample_shape()), ([18, 2, 2], Some(10), vec![3, 32, 32]));
    assert_eq!(set.class_names().map(|n| (n[0].as_str(), n[9].as_str())), Some(("airplane", "truck")));
    let test = whole(&set, Split::Test)?;
    let pixels = |i: usize| (0..3072).map(move |p| ((i + p) % 256) as f32);
    assert_eq!((values(&test), test.labels), (pixels(0).chain(pixels(1)).collect(), Some(vec![0, 1])));
    let fine = open(&testdata("cifar100"), &raw())?;
    assert_eq!((sizes(&fine), whole(&fine, Split::Test)?.labels), ([18, 2, 2], Some(vec![0, 1])));
    Ok(())
}

#[test]
fn class_folders() -> Outcome {
    let set = open(&testdata("folder"), &raw())?;
    assert_eq!((sizes(&set), set.sample_shape()), ([16, 2, 2], vec![3, 4, 4]));
    assert_eq!(set.class_names(), Some(&["ant".to_string(), "cat".to_string()][..]));
    let set = open(&testdata("folder"), &all_test())?;
    let batch = whole(&set, Split::Test)?;
    // The eleventh file is cat/01.png: image 1, channel c adds 64 c.
    let expected: Vec<f32> = (0..3).flat_map(|c| gradient(1).into_iter().map(move |v| (v + 64.0 * c as f32) % 256.0)).collect();
    assert_eq!((&values(&batch)[10 * 48..11 * 48], batch.labels.map(|l| l[10])), (&expected[..], Some(1)));
    let set = open(&testdata("parts"), &raw())?;
    assert_eq!((sizes(&set), set.class_names().map(<[_]>::len)), ([8, 2, 2], Some(2)));
    Ok(())
}

#[test]
fn grey_and_colour_jpegs_need_one_kind() -> Outcome {
    assert!(refusal(&testdata("jpeg"), &all_test()).contains("`channels`"));
    let preprocess = Some(Preprocess { channels: Some(3), resize: Some(Resize::Exact([2, 2])), ..Preprocess::default() });
    let set = open(&testdata("jpeg"), &DataOptions { preprocess, ..all_test() })?;
    let batch = whole(&set, Split::Test)?;
    let (grey, white) = (&values(&batch)[..12], &values(&batch)[12..]);
    assert!(grey.iter().all(|v| (v - 128.0 / 255.0).abs() < 0.01) && white.iter().all(|v| (v - 1.0).abs() < 0.01));
    Ok(())
}

#[test]
fn a_flat_folder_takes_its_labels_from_a_file() -> Outcome {
    let unlabelled = open(&testdata("flat"), &all_test())?;
    assert_eq!((unlabelled.classes(), whole(&unlabelled, Split::Test)?.labels), (None, None));
    for (labels, names) in [("flat.csv", Some(2)), ("flat.txt", None)] {
        let set = open(&testdata("flat"), &DataOptions { labels: Some(testdata(labels)), ..all_test() })?;
        assert_eq!(whole(&set, Split::Test)?.labels, Some(vec![0, 1, 0, 1]), "{labels}");
        assert_eq!(set.class_names().map(<[_]>::len), names, "{labels}");
    }
    let x = testdata("npy/x.npy");
    let labelled = open(&x, &DataOptions { labels: Some(testdata("npy/y.npy")), ..all_test() })?;
    assert_eq!(labelled.classes(), Some(3));
    assert!(refusal(&testdata("idx"), &DataOptions { labels: Some(testdata("flat.txt")), ..raw() }).contains("labels of its own"));
    assert!(refusal(&x, &DataOptions { labels: Some(testdata("flat.txt")), ..raw() }).contains("4 labels for 12 samples"));
    Ok(())
}

#[test]
fn resizing_agrees_with_pillow() -> Outcome {
    let sample = |name: &str, preprocess| -> Result<Vec<f32>, ExecError> {
        let set = open(&testdata(name), &DataOptions { preprocess: Some(preprocess), ..all_test() })?;
        whole(&set, Split::Test).map(|batch| values(&batch))
    };
    for (filter, name) in [(Filter::Bilinear, "resized_bilinear"), (Filter::Bicubic, "resized_bicubic")] {
        let resize = Preprocess { resize: Some(Resize::Exact([5, 7])), filter, ..Preprocess::none() };
        let (ours, pillows) = (sample("resized.npz", resize.clone())?, sample(&format!("{name}.npz"), Preprocess::none())?);
        assert_eq!(ours.len(), 35);
        assert!(ours.iter().zip(&pillows).all(|(a, b)| (a - b).abs() < 1e-3), "{name}: {ours:?} {pillows:?}");
        // Both passes round, and Pillow's versions differ in which comes first.
        let (ours, pillows) = (sample("resized", resize)?, sample(name, Preprocess::none())?);
        assert!(ours.iter().zip(&pillows).all(|(a, b)| (a - b).abs() <= 1.0), "8 bits, {name}: {ours:?} {pillows:?}");
        assert!(ours.iter().all(|v| v.fract() == 0.0), "{ours:?}");
    }
    Ok(())
}

#[test]
fn images_are_fitted_to_a_model_where_nothing_else_is_said() -> Outcome {
    let fitted = |name: &str, input, options: DataOptions| -> Result<Dataset, Box<dyn std::error::Error>> {
        let graph = model(input, 2)?;
        let set = open(&testdata(name), &options.for_model(&graph)?)?;
        set.check_against(&graph).map(|()| set).map_err(Into::into)
    };
    for name in ["idx", "folder", "jpeg"] {
        let set = fitted(name, [3, 32, 32], DataOptions { split: SplitOptions::all_test(), ..DataOptions::default() })?;
        let text = set.describe().to_string();
        assert!(text.contains("resize to 32×32, to RGB") && text.contains("(to fit the model)"), "{text}");
        assert_eq!(whole(&set, Split::Test)?.inputs[0].dims()[1..], [3, 32, 32]);
    }
    // What fits already is left alone.
    let set = fitted("idx", [1, 4, 4], DataOptions::default())?;
    assert!(!set.describe().fitted && set.preprocess().resize.is_none(), "{}", set.describe());
    // Arrays are taken as they are, but [4, 4] is a grey image.
    let set = fitted("keras.npz", [1, 4, 4], DataOptions::default())?;
    assert_eq!((set.sample_shape(), &values(&whole(&set, Split::Test)?)[16..32]), (vec![1, 4, 4], &gradient(1)[..]));
    assert!(fitted("keras.npz", [1, 8, 8], DataOptions::default()).is_err());
    // The user's word and the metadata come first.
    assert!(fitted("idx", [3, 32, 32], raw()).is_err());
    let graph = GraphBuilder::new("m").metadata(Preprocess::METADATA_KEY, "{\"crop\": 2}").finish()?;
    let set = open(&testdata("idx"), &DataOptions { fit_to: Some([3, 32, 32]), ..DataOptions::default() }.for_model(&graph)?)?;
    assert_eq!((set.sample_shape(), set.describe().fitted), (vec![1, 2, 2], false));
    Ok(())
}

#[test]
fn batches_cover_a_split_and_keep_their_order() -> Outcome {
    let set = open(&testdata("idx"), &raw())?;
    let order = |epoch| -> Result<Vec<usize>, ExecError> {
        let batches = set.batches(Split::Train, 5, Order::Shuffled { seed: 3, epoch }, false);
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        assert_eq!(batches.iter().map(|b| b.indices.len()).collect::<Vec<_>>(), [5, 5, 5, 3]);
        Ok(batches.into_iter().flat_map(|b| b.indices).collect())
    };
    let (first, second) = (order(0)?, order(1)?);
    assert_eq!(first, order(0)?);
    assert_ne!(first, second);
    let sorted = |mut indices: Vec<usize>| {
        indices.sort_unstable();
        indices
    };
    assert_eq!(sorted(first), whole(&set, Split::Train)?.indices);
    assert_eq!(sorted(second), whole(&set, Split::Train)?.indices);
    // Leaving early must not hang.
    drop(set.batches(Split::Train, 1, Order::Sequential, false));
    Ok(())
}

#[test]
fn augmented_batches_do_not_depend_on_batch_size_or_threads() -> Outcome {
    let augment = Augment { flip: true, crop_padding: 2, cutout: 2 };
    let set = open(&testdata("folder"), &DataOptions { augment, ..raw() })?;
    let samples = |batch: usize| -> Result<Vec<f32>, ExecError> {
        let mut all = vec![];
        for batch in set.batches(Split::Train, batch, Order::Shuffled { seed: 1, epoch: 4 }, true) {
            all.extend(values(&batch?));
        }
        Ok(all)
    };
    let one_by_one = samples(1)?;
    assert_eq!(one_by_one, samples(16)?);
    let plain = open(&testdata("folder"), &raw())?;
    let mut unchanged = vec![];
    for batch in plain.batches(Split::Train, 16, Order::Shuffled { seed: 1, epoch: 4 }, true) {
        unchanged.extend(values(&batch?));
    }
    assert_ne!(one_by_one, unchanged);
    Ok(())
}

fn model(input: [usize; 3], classes: usize) -> Result<Graph, Box<dyn std::error::Error>> {
    let mut b = GraphBuilder::new("m");
    let [c, h, w] = input.map(Dim::Fixed);
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), c, h, w]);
    let flat = b.node("flat", Flatten { axis: 1 }, &[x]);
    let weight = b.tensor(
        "w",
        penjing_graph::Tensor::new([input.iter().product(), classes], vec![0.0f32; input.iter().product::<usize>() * classes]),
    );
    let y = b.node("y", penjing_graph::ops::MatMul, &[flat, weight]);
    Ok(b.output(y).finish()?)
}

#[test]
fn a_model_that_does_not_fit_is_told_apart_before_anything_runs() -> Outcome {
    let set = open(&testdata("idx"), &raw())?;
    set.check_against(&model([1, 4, 4], 2)?)?;
    let message = |set: &Dataset, graph: Graph| set.check_against(&graph).err().map(|e| e.to_string()).unwrap_or_default();
    let shape = message(&set, model([3, 32, 32], 2)?);
    assert!(shape.contains("`x`") && shape.contains("3×32×32") && shape.contains("1×4×4"), "{shape}");
    assert!(shape.contains("resize = [32, 32]") && shape.contains("channels = 3"), "{shape}");
    assert!(message(&set, model([1, 4, 4], 10)?).contains("--classes 2"));
    // A set that only measures may show fewer classes than the model knows, never more.
    let some = open(&testdata("flat"), &DataOptions { labels: Some(testdata("flat.txt")), ..all_test() })?;
    some.check_against(&model([1, 4, 4], 10)?)?;
    assert!(message(&some, model([1, 4, 4], 1)?).contains("2 classes"));
    Ok(())
}

#[test]
fn the_description_says_what_was_done() -> Outcome {
    let preprocess = Some(Preprocess { resize: Some(Resize::Exact([8, 8])), channels: Some(3), mean: vec![0.5], ..Preprocess::default() });
    let set = open(&testdata("idx"), &DataOptions { preprocess, augment: Augment { flip: true, ..Augment::default() }, ..raw() })?;
    let text = set.describe().to_string().replace(&testdata("idx").display().to_string(), "idx");
    insta::assert_snapshot!(text, @r"
    IDX `idx`: samples of [3, 8, 8], 2 classes
    split: train 18 [9 a class], validation 2 [1 a class], test 4 [2 a class] (test: the set's own; validation: 10 % drawn, class by class with seed 0)
    preprocessing: resize to 8×8, to RGB, 0..255 to 0..1, minus 0.5
    augmentation: flip
    ");
    Ok(())
}

#[test]
fn files_that_lie_are_refused() -> Outcome {
    assert!(refusal(&testdata("hostile_shape.npz"), &raw()).contains("declares 2147483648 octets"));
    assert!(refusal(&testdata("hostile_bomb.npz"), &raw()).contains("holds more than the 16 octets"));
    assert!(refusal(&testdata("objects.npz"), &raw()).contains("never read"));
    let folder = tempfile::tempdir()?;
    let file = |name: &str, octets: &[u8]| -> Result<PathBuf, std::io::Error> {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
        fs::File::create(&path)?.write_all(octets)?;
        Ok(path)
    };
    let huge = file("huge-images-idx3-ubyte", &[0, 0, 8, 3, 0, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff])?;
    assert!(refusal(&huge, &raw()).contains("stored octets can hold"));
    let huger = file("huger-images-idx3-ubyte", &[0, 0, 8, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 7])?;
    assert!(refusal(&huger, &raw()).contains("larger than any file"));
    let magic = file("text-images-idx3-ubyte", b"hello, world")?;
    assert!(refusal(&magic, &raw()).contains("no IDX file"));
    let floats = file("float-images-idx3-ubyte", &[0, 0, 0x0d, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0])?;
    assert!(refusal(&floats, &raw()).contains("0x0d"));
    let packed = fs::read(testdata("idx/train-images-idx3-ubyte.gz"))?;
    let cut = file("cut-images-idx3-ubyte.gz", &packed[..packed.len() / 2])?;
    assert!(refusal(&cut, &raw()).contains("ends too early"));
    let record = file("cifar/data_batch_1.bin", &[0; 3072])?;
    assert!(refusal(record.parent().unwrap_or(&record), &raw()).contains("3073"));
    let range = file("cifar/data_batch_1.bin", &[10; 3073])?;
    assert!(refusal(range.parent().unwrap_or(&range), &raw()).contains("label 10 of image 0 is out of range"));
    let header = file("huge.safetensors", &[0xff; 16])?;
    assert!(refusal(&header, &raw()).contains("header"));
    let cut = file("cut.safetensors", &fs::read(testdata("arrays.safetensors"))?[..200])?;
    assert!(!refusal(&cut, &raw()).is_empty());
    let image = file("images/a/x.png", b"no image at all")?;
    assert!(refusal(&folder.path().join("images"), &all_test()).contains(&image.display().to_string()));
    // 60,000 by 60,000 pixels, declared by 45 octets: signature, header, no data.
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
    let checksum = crc32(&bomb[12..]);
    bomb.extend(checksum.to_be_bytes());
    bomb.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    let bomb = file("bomb/a/x.png", &bomb)?;
    let text = refusal(&folder.path().join("bomb"), &all_test());
    assert!(text.contains("60000×60000") && text.contains(&bomb.display().to_string()), "{text}");
    assert!(refusal(&folder.path().join("nothing"), &raw()).contains("nothing"));
    Ok(())
}

/// The checksum of PNG's chunks, bit by bit (RFC 2083, appendix 15).
fn crc32(octets: &[u8]) -> u32 {
    !octets
        .iter()
        .fold(!0u32, |crc, octet| (0..8).fold(crc ^ u32::from(*octet), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 }))
}

#[test]
fn mistakes_in_a_set_are_named() -> Outcome {
    let folder = tempfile::tempdir()?;
    let table = |name: &str, text: &str| -> Result<PathBuf, std::io::Error> {
        let path = folder.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    let text = refusal(&table("text.csv", "label,colour\n0,red\n")?, &raw());
    assert!(text.contains("row 2, column `colour`: `red` is no number"), "{text}");
    assert!(refusal(&table("nan.csv", "a,b\n1,nan\n")?, &raw()).contains("no number"));
    assert!(refusal(&table("ragged.csv", "a,b\n1,2\n1\n")?, &raw()).contains("row 3 has 1 columns"));
    assert!(refusal(&table("two.csv", "label,y\n1,2\n")?, &raw()).contains("two columns of classes"));
    let from_one = (0..40).map(|i| format!("{},{i}\n", 1 + i % 2)).collect::<String>();
    let gap = refusal(&table("gap.csv", &format!("label,a\n{from_one}"))?, &raw());
    assert!(gap.contains("class 0 of 3 has no training samples"), "{gap}");
    let far = (0..40).map(|i| format!("{},{i}\n", (i % 2) as u32 * u32::MAX)).collect::<String>();
    let far = refusal(&table("far.csv", &format!("label,a\n{far}"))?, &raw());
    assert!(far.contains("class 1 of 4294967296 has no training samples"), "{far}");
    fs::create_dir_all(folder.path().join("set/full"))?;
    fs::create_dir_all(folder.path().join("set/empty"))?;
    fs::copy(testdata("flat/0.png"), folder.path().join("set/full/0.png"))?;
    let empty = refusal(&folder.path().join("set"), &raw());
    assert!(empty.contains("empty") && empty.contains("without PNG or JPEG"), "{empty}");
    let crop = DataOptions { preprocess: Some(Preprocess { crop: Some([28, 28]), ..Preprocess::default() }), ..DataOptions::default() };
    assert!(refusal(&testdata("idx"), &crop).contains("28×28 does not fit into 4×4"));
    let images = DataOptions { preprocess: Some(Preprocess::imagenet()), ..DataOptions::default() };
    assert!(refusal(&testdata("arrays.npz"), &images).contains("[3]"));
    Ok(())
}

const DAMAGED: [&str; 8] = [
    "arrays.npz",
    "npy/x.npy",
    "arrays.safetensors",
    "table.csv",
    "idx/t10k-images.idx3-ubyte",
    "idx/train-images-idx3-ubyte.gz",
    "flat/0.png",
    "jpeg/white/0.jpg",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any damage to a small file is an error or another set, never a panic.
    #[test]
    fn damaged_files_do_not_panic(which in 0..DAMAGED.len(), cut in 0.0..1.0f64, flips in prop::collection::vec((0.0..1.0f64, 0u8..8), 0..4)) {
        let name = DAMAGED[which];
        let mut octets = fs::read(testdata(name)).expect("testdata are there");
        for (at, bit) in flips {
            let at = (at * octets.len() as f64) as usize;
            octets[at] ^= 1 << bit;
        }
        if cut > 0.5 {
            octets.truncate((cut * octets.len() as f64) as usize);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(Path::new(name).file_name().expect("a name"));
        fs::write(&path, octets).expect("room");
        let image = name.ends_with("png") || name.ends_with("jpg");
        if let Ok(set) = open(if image { folder.path() } else { &path }, &all_test()) {
            let _ = set.batches(Split::Test, 8, Order::Sequential, false).collect::<Result<Vec<_>, _>>();
        }
    }
}

/// Token ids and their mask for a model that takes both.
fn two_inputs(first: DataType) -> Result<Graph, Box<dyn std::error::Error>> {
    let mut b = GraphBuilder::new("m");
    let ids = b.input("ids", first, [Dim::symbol("N"), Dim::symbol("L")]);
    let mask = b.input("mask", DataType::Float, [Dim::symbol("N"), Dim::symbol("L")]);
    let float = b.node("float", penjing_graph::ops::Cast { to: DataType::Float, saturate: true }, &[ids]);
    let y = b.node("y", penjing_graph::ops::Binary::Mul, &[float, mask]);
    Ok(b.output(y).finish()?)
}

#[test]
fn an_array_for_each_input() -> Outcome {
    use safetensors::{Dtype, tensor::TensorView};
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("tokens.safetensors");
    let ids: Vec<u8> = (0..60i64).flat_map(|i| (30_000 + i).to_le_bytes()).collect();
    let mask: Vec<u8> = (0..60).map(|i| u8::from(i % 3 != 2)).collect();
    let classes: Vec<u8> = (0..20).map(|i| i % 2).collect();
    let write = |mask_rows: usize| -> Result<(), Box<dyn std::error::Error>> {
        let views = [
            ("mask", TensorView::new(Dtype::U8, vec![mask_rows, 60 / mask_rows], &mask)?),
            ("ids", TensorView::new(Dtype::I64, vec![20, 3], &ids)?),
            ("y", TensorView::new(Dtype::U8, vec![20], &classes)?),
        ];
        Ok(fs::write(&path, safetensors::serialize(views, None)?)?)
    };
    write(20)?;
    let graph = two_inputs(DataType::Int64)?;
    let options = DataOptions { split: SplitOptions::all_test(), ..DataOptions::default() }.for_model(&graph)?;
    let set = open(&path, &options)?;
    set.check_input(&graph)?;
    assert_eq!((set.classes(), set.len(Split::Test), set.sample_shape()), (Some(2), 20, vec![3]));
    let batch = whole(&set, Split::Test)?;
    assert_eq!((batch.inputs[0].dims(), batch.inputs[1].dims()), (&[20, 3][..], &[20, 3][..]));
    assert_eq!(batch.inputs[0].values::<i64>().expect("integers")[..4], [30_000, 30_001, 30_002, 30_003]);
    assert_eq!(batch.inputs[1].values::<f32>().expect("floats")[..4], [1.0, 1.0, 0.0, 1.0]);
    assert_eq!(batch.labels.map(|labels| labels[..3].to_vec()), Some(vec![0, 1, 0]));

    // A model of other inputs, arrays of other lengths, and preprocessing of what are no images.
    let other = two_inputs(DataType::Int32)?;
    assert!(set.check_input(&other).expect_err("another type").to_string().contains("`ids`"));
    assert!(set.check_input(&model([1, 4, 4], 2)?).expect_err("another model").to_string().contains("the data give `ids`, `mask`"));
    let scaled = DataOptions { preprocess: Some(Preprocess::imagenet()), ..options.clone() };
    assert!(refusal(&path, &scaled).contains("--preprocess none"));
    write(30)?;
    assert!(refusal(&path, &options).contains("holds 20 samples in `ids`, but 30 in `mask`"));
    Ok(())
}
