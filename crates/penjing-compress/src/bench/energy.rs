//! Energy that the processor counts: RAPL's counters of whole packages, where the system shows them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where Linux shows the counters; most systems let only root read them.
const POWERCAP: &str = "/sys/class/powercap";
/// How long a model is run for its energy: the counters tick about once a millisecond.
const LENGTH: Duration = Duration::from_secs(1);

/// Counters of all packages.
#[derive(Debug)]
pub(super) struct Energy {
    packages: Vec<Package>,
}

/// Counter of one package in microjoules, which starts at 0 again beyond `range`.
#[derive(Debug)]
struct Package {
    counter: PathBuf,
    range: u64,
}

impl Package {
    /// `None` for other domains, such as the memory or the whole board.
    fn at(folder: &Path) -> Option<Package> {
        let name = fs::read_to_string(folder.join("name")).ok()?;
        let range = number(&folder.join("max_energy_range_uj"))?;
        let package = Package { counter: folder.join("energy_uj"), range };
        (name.starts_with("package") && number(&package.counter).is_some()).then_some(package)
    }

    fn read(&self) -> Option<u64> {
        number(&self.counter)
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl Energy {
    /// The counters of this machine; `None` where there are none or they cannot be read.
    pub(super) fn of_this_machine() -> Option<Energy> {
        Energy::at(Path::new(POWERCAP))
    }

    fn at(folder: &Path) -> Option<Energy> {
        // `intel-rapl:0` is a package, `intel-rapl:0:1` a part of it.
        let entries = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let packages: Vec<Package> = entries.filter_map(|path| Package::at(&path)).collect();
        (!packages.is_empty()).then_some(Energy { packages })
    }

    fn read(&self) -> Option<Vec<u64>> {
        self.packages.iter().map(Package::read).collect()
    }

    /// Joules from one reading to a later one, no counter having come round twice.
    fn joules(&self, before: &[u64], after: &[u64]) -> f64 {
        let passed = |((package, before), after): ((&Package, &u64), &u64)| match after.checked_sub(*before) {
            Some(passed) => passed,
            None => package.range.saturating_sub(*before) + after,
        };
        self.packages.iter().zip(before).zip(after).map(passed).sum::<u64>() as f64 / 1e6
    }

    /// Joules for one run, the mean over a second of them. `None` when the counters cannot be read any more.
    pub(super) fn per_run<E>(&self, run: &mut dyn FnMut() -> Result<(), E>) -> Result<Option<f64>, E> {
        let (Some(before), start) = (self.read(), Instant::now()) else { return Ok(None) };
        let mut runs = 0u32;
        while runs == 0 || start.elapsed() < LENGTH {
            run()?;
            runs += 1;
        }
        Ok(self.read().map(|after| self.joules(&before, &after) / f64::from(runs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(root: &Path, folder: &str, name: &str, energy: u64) {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).expect("a folder");
        for (file, text) in [("name", name.to_string()), ("energy_uj", energy.to_string()), ("max_energy_range_uj", "1000000".into())] {
            fs::write(folder.join(file), format!("{text}\n")).expect("written");
        }
    }

    #[test]
    fn packages_count_and_their_parts_do_not() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(Energy::at(root.path()).is_none() && Energy::at(&root.path().join("none")).is_none());
        domain(root.path(), "intel-rapl:0", "package-0", 900_000);
        domain(root.path(), "intel-rapl:0:0", "core", 500_000);
        domain(root.path(), "intel-rapl:1", "psys", 500_000);
        let energy = Energy::at(root.path()).expect("a package");
        assert_eq!((energy.packages.len(), energy.read()), (1, Some(vec![900_000])));
        // 1.000000 J is where the counter starts again.
        assert_eq!(energy.joules(&[900_000], &[950_000]), 0.05);
        assert_eq!(energy.joules(&[900_000], &[100_000]), 0.2);
    }

    #[test]
    fn a_run_takes_its_share() {
        let root = tempfile::tempdir().expect("a folder");
        domain(root.path(), "intel-rapl:0", "package-0", 0);
        let energy = Energy::at(root.path()).expect("a package");
        let mut runs = 0u64;
        let mut run = || {
            runs += 1;
            std::thread::sleep(Duration::from_millis(50));
            fs::write(root.path().join("intel-rapl:0/energy_uj"), (runs * 3_000).to_string())
        };
        let joules = energy.per_run(&mut run).expect("written").expect("read");
        assert!((joules - 0.003).abs() < 1e-12, "{joules}");
        let broken = energy.per_run(&mut || fs::remove_file(root.path().join("intel-rapl:0/energy_uj")));
        assert!(broken.is_err());
    }
}
