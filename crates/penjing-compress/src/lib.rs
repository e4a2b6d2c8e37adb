//! Compression methods and the run engine that applies them, verifies the result and records the evidence.
//!
//! Knows graphs and executors, not terminals: all that the command can do, this library can.

pub mod bench;
mod compare;
mod fastest;
pub mod floor;
mod gain;
mod journal;
mod outcome;
pub mod prune;
pub mod quant;
mod recipe;
mod run;
mod speed;
mod timing;
mod verify;

pub use compare::{COMPARE_BATCH, CompareOptions, Compared, compare, fixed_batch};
pub use fastest::{Fastest, Form, Tried};
pub use gain::FileSize;
pub use journal::Journal;
pub use outcome::{Accuracy, BeforeAfter, CostChange, Likeness, MetricChange, OUTCOME_VERSION, Outcome, Round, SizeChange, Verdict};
pub use recipe::{
    BN_SAMPLES, CALIBRATION_SAMPLES, ChannelGoal, ChannelPruning, DataSource, ModelSource, PruneGoal, RECIPE_VERSION, Recipe, Step,
    WeightPruning,
};
pub use run::{Context, RunError, RunEvent, accuracy, build_for, execute, open_all, open_data, open_inputs};
pub use speed::SpeedUp;
pub use timing::Median;
pub use verify::{Verification, verify};
