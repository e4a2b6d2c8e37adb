//! ONNX Runtime, loaded when the program runs.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bytes::Bytes;
use ort::session::Session;
use ort::value::{DynValue, Value};
use penjing_graph::{DataType, Element, Tensor};

use crate::ExecError;

/// ONNX Runtime's library, found and loaded.
#[derive(Clone, Copy, Debug)]
pub struct OnnxRuntime {
    environment: &'static ort::environment::Environment,
    library: &'static Path,
}

/// A process has one ONNX Runtime: its library cannot be unloaded, nor its environment made twice.
static LOADED: OnceLock<(ort::environment::Environment, PathBuf)> = OnceLock::new();

impl OnnxRuntime {
    /// Looks for the library and loads it: at `path` (the library or a folder that holds it), then where `ORT_DYLIB_PATH`
    /// says, then in the `onnxruntime` package of the `python3` on PATH, then on the system's library path.
    ///
    /// `None` where there is none; everything else works without it.
    ///
    /// # Errors
    /// When a library that `path` or `ORT_DYLIB_PATH` names cannot be loaded.
    pub fn find(path: Option<&Path>) -> Result<Option<OnnxRuntime>, ExecError> {
        let named = path.map(Path::to_path_buf).or_else(|| std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from));
        if LOADED.get().is_none() {
            let library = match named {
                Some(path) => Some(library_at(&path).ok_or_else(|| ExecError::Runtime {
                    what: format!("load ONNX Runtime from `{}`", path.display()),
                    source: "no library of that name there (hint: name libonnxruntime.so or the folder that holds it)".into(),
                })?),
                None => in_python_package(),
            };
            let by_name = PathBuf::from(format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX));
            let (library, must_load) = library.map_or((by_name, false), |path| (path, true));
            match load(&library) {
                Ok(environment) => drop(LOADED.set((environment, library))),
                Err(source) if must_load => {
                    return Err(ExecError::Runtime { what: format!("load ONNX Runtime from `{}`", library.display()), source });
                }
                Err(_) => return Ok(None),
            }
        }
        Ok(LOADED.get().map(|(environment, library)| OnnxRuntime { environment, library }))
    }

    /// The library's file.
    pub fn library(&self) -> &Path {
        self.library
    }

    /// A session for the model at `path` on that many threads.
    ///
    /// # Errors
    /// When ONNX Runtime refuses the model.
    pub fn open(&self, path: &Path, threads: usize) -> Result<OnnxSession, ExecError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| ExecError::Runtime {
            what: format!("open `{}` in ONNX Runtime", path.display()),
            source,
        };
        let session = Session::builder(self.environment)
            .and_then(|b| Ok(b.with_intra_threads(threads)?))
            .and_then(|mut b| b.commit_from_file(path))
            .map_err(|e| failed(Box::new(e)))?;
        Ok(OnnxSession { session })
    }
}

fn load(library: &Path) -> Result<ort::environment::Environment, Box<dyn std::error::Error + Send + Sync>> {
    Ok(ort::init_from(library)?.with_name("penjing").build()?)
}

/// The library itself, or the newest one in a folder.
fn library_at(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_path_buf());
    }
    let prefix = format!("{}onnxruntime", std::env::consts::DLL_PREFIX);
    let mut libraries: Vec<PathBuf> = std::fs::read_dir(path)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| {
            p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('.')))
        })
        .collect();
    libraries.sort();
    libraries.pop()
}

fn in_python_package() -> Option<PathBuf> {
    const FIND: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); print(s.submodule_search_locations[0] if s else '')";
    let output = Command::new("python3").args(["-c", FIND]).output().ok().filter(|o| o.status.success())?;
    let package = String::from_utf8(output.stdout).ok()?;
    library_at(&Path::new(package.trim()).join("capi"))
}

/// One model in ONNX Runtime.
#[derive(Debug)]
pub struct OnnxSession {
    session: Session,
}

impl OnnxSession {
    /// All outputs for one batch; inputs in the model's order.
    ///
    /// # Errors
    /// When the inputs do not fit or a type has no counterpart.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecError> {
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| ExecError::Runtime { what: "run the model in ONNX Runtime".into(), source };
        let names: Vec<String> = self.session.inputs().iter().map(|i| i.name().to_string()).collect();
        let values = inputs.iter().map(to_value).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let named: Vec<(Cow<'_, str>, DynValue)> = names.into_iter().map(Cow::from).zip(values).collect();
        let outputs = self.session.run(named).map_err(|e| failed(Box::new(e)))?;
        outputs.iter().map(|(_, value)| from_value(&value)).collect::<Result<_, _>>().map_err(failed)
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn to_value(tensor: &Tensor) -> Result<DynValue, AnyError> {
    fn typed<T: Element + ort::value::PrimitiveTensorElementType + std::fmt::Debug + 'static>(
        tensor: &Tensor,
    ) -> Result<DynValue, AnyError> {
        let values = tensor.values::<T>().ok_or("the tensor has another type")?.into_owned();
        Ok(Value::from_array((tensor.dims().to_vec(), values))?.into_dyn())
    }
    match tensor.dtype() {
        DataType::Float => typed::<f32>(tensor),
        DataType::Double => typed::<f64>(tensor),
        DataType::Int64 => typed::<i64>(tensor),
        DataType::Int32 => typed::<i32>(tensor),
        DataType::Uint8 => typed::<u8>(tensor),
        DataType::Int8 => typed::<i8>(tensor),
        other => Err(format!("inputs of type {} cannot be given to ONNX Runtime yet", other.name()).into()),
    }
}

fn from_value(value: &ort::value::ValueRef<'_>) -> Result<Tensor, AnyError> {
    fn typed<T: Element + ort::value::PrimitiveTensorElementType>(value: &ort::value::ValueRef<'_>) -> Option<Tensor> {
        let (shape, values) = value.try_extract_tensor::<T>().ok()?;
        let dims = shape.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<_>>>()?;
        Tensor::from_raw(T::DATA_TYPE, dims, Bytes::copy_from_slice(bytemuck::cast_slice(values))).ok()
    }
    typed::<f32>(value)
        .or_else(|| typed::<i64>(value))
        .or_else(|| typed::<f64>(value))
        .or_else(|| typed::<i32>(value))
        .or_else(|| typed::<u8>(value))
        .or_else(|| typed::<i8>(value))
        .ok_or_else(|| format!("outputs of type {:?} cannot be taken from ONNX Runtime yet", value.dtype()).into())
}
