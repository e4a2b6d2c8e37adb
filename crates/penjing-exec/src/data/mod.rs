//! Data sets: one file per format, transforms, splits, batches.
