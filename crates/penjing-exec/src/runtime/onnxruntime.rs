//! ONNX Runtime, loaded when the program runs.

mod model;
mod optimized;
mod tensors;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub use model::OnnxModel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::DynValue;
use penjing_graph::Tensor;

use crate::ExecError;

pub(super) const NAME: &str = "ONNX Runtime";

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// How ONNX Runtime runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads that one operator is shared among.
    pub threads: usize,
    /// Whether it may rewrite the graph before it runs it: fuse operators, fold constants, choose layouts. Without, it runs the
    /// nodes as they are.
    pub optimize: bool,
}

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
        let session = self.builder(SessionOptions { threads, optimize: true }).and_then(|mut builder| builder.commit_from_file(path));
        Ok(OnnxSession { session: session.map_err(failed(format!("open `{}` in ONNX Runtime", path.display())))? })
    }

    fn builder(&self, options: SessionOptions) -> ort::Result<SessionBuilder> {
        let level = if options.optimize { GraphOptimizationLevel::All } else { GraphOptimizationLevel::Disable };
        Ok(Session::builder(self.environment)?.with_intra_threads(options.threads)?.with_optimization_level(level)?)
    }
}

/// An error of ONNX Runtime's, which was asked to do `what`.
fn failed<E: Into<AnyError>>(what: String) -> impl FnOnce(E) -> ExecError {
    move |source| ExecError::Runtime { what, source: source.into() }
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
        run_session(&mut self.session, inputs, None)
    }
}

/// Outputs of a session, those of these names or all; inputs in the model's order.
fn run_session(session: &mut Session, inputs: &[Tensor], names: Option<&[&str]>) -> Result<Vec<Tensor>, ExecError> {
    let mut run = || -> Result<Vec<Tensor>, AnyError> {
        let input_names: Vec<String> = session.inputs().iter().map(|input| input.name().to_string()).collect();
        if input_names.len() != inputs.len() {
            return Err(format!("the model takes {} inputs, not {}", input_names.len(), inputs.len()).into());
        }
        let values = inputs.iter().map(tensors::to_value).collect::<Result<Vec<_>, _>>()?;
        let named: Vec<(Cow<'_, str>, DynValue)> = input_names.into_iter().map(Cow::from).zip(values).collect();
        let outputs = session.run(named)?;
        let of_name = |name: &&str| match outputs.get(name) {
            Some(value) => tensors::from_value(value),
            None => Err(format!("it gives no `{name}`").into()),
        };
        match names {
            Some(names) => names.iter().map(of_name).collect(),
            None => outputs.iter().map(|(_, value)| tensors::from_value(&value)).collect(),
        }
    };
    run().map_err(failed("run the model in ONNX Runtime".into()))
}
