//! Rewrites, one file each: a pass proposes, the graph applies and checks.
