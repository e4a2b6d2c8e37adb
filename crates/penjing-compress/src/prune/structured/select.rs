//! Which channels go: the lowest scores, as far as a budget asks for it, in numbers that devices like.

use std::collections::BTreeMap;

use penjing_graph::channels::{ChannelGroup, Channels, Removal};
use penjing_graph::{Graph, NodeCost, node_costs};
use serde::{Deserialize, Serialize};

use crate::prune::PruneError;

/// Among which channels scores are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelScope {
    /// All channels of the network: groups that need fewer lose more.
    #[default]
    Global,
    /// Every group loses the same share.
    Layer,
    /// Groups whose channels take along the same kinds of weights, each kind for itself.
    Isomorphic,
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// Channels of all groups that can be cut.
    Channels,
    /// Multiply-accumulates for one sample.
    Macs,
    /// Elements of float initializers.
    Params,
    /// Time for one sample, measured; not counted here.
    Latency,
}

/// Bounds on what is left of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Channels that every group keeps.
    pub min_channels: usize,
    /// Positions of each axis that are left are a multiple of this, where the axis has as many.
    pub round_to: usize,
    /// Groups that stay whole: their names, or those of nodes that give their channels, `*` for any text.
    pub keep: Vec<String>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { min_channels: 1, round_to: 8, keep: vec![] }
    }
}

/// Whether `name` is what `pattern` describes, `*` standing for any text.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// Operators and how many of each.
type Kind = Vec<(String, usize)>;

/// A group and one of its channels.
type Candidate = (usize, usize);

/// The channels of a network with their scores, lowest first within each pool of those that are compared.
#[derive(Debug)]
pub struct Selection<'a> {
    graph: &'a Graph,
    channels: &'a Channels,
    costs: Vec<NodeCost>,
    limits: &'a Limits,
    /// The group of each channel of a pool, in the order in which they go.
    pools: Vec<Vec<usize>>,
    /// The channels of each group, in the order in which they go.
    order: Vec<Vec<usize>>,
    /// Their scores, in the same order.
    scores: Vec<Vec<f32>>,
}

impl<'a> Selection<'a> {
    /// Orders channels by their scores; groups without scores, and those to keep, stay whole.
    ///
    /// # Errors
    /// When a pattern of `limits` matches nothing, or no channel can go.
    pub fn new(
        graph: &'a Graph,
        channels: &'a Channels,
        scores: &[Option<Vec<f32>>],
        scope: ChannelScope,
        limits: &'a Limits,
    ) -> Result<Selection<'a>, PruneError> {
        let mut used = vec![false; limits.keep.len()];
        let mut pools: BTreeMap<Kind, Vec<Candidate>> = BTreeMap::new();
        for (g, group) in channels.groups.iter().enumerate() {
            let kept = kept_by(graph, group, &limits.keep, &mut used);
            let Some(scores) = scores[g].as_ref().filter(|_| !kept) else { continue };
            let pool = match scope {
                ChannelScope::Global => vec![],
                ChannelScope::Layer => vec![(String::new(), g)],
                ChannelScope::Isomorphic => kind(graph, group),
            };
            pools.entry(pool).or_default().extend((0..scores.len()).map(|channel| (g, channel)));
        }
        if let Some((pattern, _)) = limits.keep.iter().zip(&used).find(|(_, used)| !**used) {
            return Err(PruneError::NothingToKeep { pattern: pattern.clone() });
        }
        if pools.is_empty() {
            return Err(PruneError::NoChannels);
        }
        let score = |(g, channel): &Candidate| scores[*g].as_ref().map_or(0.0, |s| s[*channel]);
        let mut pools: Vec<Vec<Candidate>> = pools.into_values().collect();
        for pool in &mut pools {
            // Ties go to the lower index, so that a rerun removes the same channels.
            pool.sort_by(|a, b| score(a).total_cmp(&score(b)).then(a.cmp(b)));
        }
        let (mut order, mut in_order) = (vec![vec![]; channels.groups.len()], vec![vec![]; channels.groups.len()]);
        for candidate in pools.iter().flatten() {
            order[candidate.0].push(candidate.1);
            in_order[candidate.0].push(score(candidate));
        }
        let pools = pools.into_iter().map(|pool| pool.into_iter().map(|(g, _)| g).collect()).collect();
        Ok(Selection { graph, channels, costs: node_costs(graph), limits, pools, order, scores: in_order })
    }

    /// Removes that share of every pool, as far as the limits let it.
    pub fn share(&self, share: f64) -> Removal {
        self.removal(&self.counts(share))
    }

    /// How many channels every group loses with that share of every pool.
    fn counts(&self, share: f64) -> Vec<usize> {
        let mut counts = vec![0; self.channels.groups.len()];
        for pool in &self.pools {
            let count = (share * pool.len() as f64 + 1e-6).floor() as usize;
            pool[..count.min(pool.len())].iter().for_each(|g| counts[*g] += 1);
        }
        let groups = self.channels.groups.iter().zip(counts);
        groups.map(|(group, count)| group.channels - self.allowed(group, group.channels - count)).collect()
    }

    /// The channels that go first, so many of every group.
    fn removal(&self, counts: &[usize]) -> Removal {
        let first = |(order, count): (&Vec<usize>, &usize)| {
            let mut first = order[..*count].to_vec();
            first.sort_unstable();
            first
        };
        self.order.iter().zip(counts).map(first).collect()
    }

    /// The number of channels that a group keeps where `left` are asked for: no fewer, in steps that fill a multiple of positions.
    fn allowed(&self, group: &ChannelGroup, left: usize) -> usize {
        // A head is one position where heads have an axis of their own, and many in the weights, which are what a runtime packs.
        let weights = group.members.iter().filter(|m| self.graph.tensor(m.axis.value).is_some());
        let positions = weights.map(|m| m.positions(0).len().max(1)).min().unwrap_or(1);
        let step = self.limits.round_to.max(1) / gcd(self.limits.round_to.max(1), positions);
        left.max(self.limits.min_channels.max(1)).next_multiple_of(step).min(group.channels)
    }

    /// What is left of the budget's unit without those channels.
    fn left(&self, budget: Budget, removal: &Removal) -> Result<f64, PruneError> {
        let (parameters, macs) = self.channels.cost(self.graph, &self.costs, removal)?;
        Ok(match budget {
            Budget::Channels => (self.channels.len() - removal.iter().map(Vec::len).sum::<usize>()) as f64,
            Budget::Macs | Budget::Latency => macs as f64,
            Budget::Params => parameters as f64,
        })
    }

    /// The smallest share of every pool without which no more than `most` of the budget's unit is left; what rounding took beyond
    /// that is given back.
    ///
    /// # Errors
    /// When not even all that can go is enough.
    pub fn within(&self, budget: Budget, most: f64) -> Result<Removal, PruneError> {
        let fits = |counts: &[usize]| Ok::<bool, PruneError>(self.left(budget, &self.removal(counts))? <= most);
        if !fits(&self.counts(1.0))? {
            let least = self.left(budget, &self.share(1.0))?;
            return Err(PruneError::BudgetOutOfReach { budget: budget.unit(), asked: most, least });
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..20 {
            let middle = (low + high) / 2.0;
            match fits(&self.counts(middle))? {
                true => high = middle,
                false => low = middle,
            }
        }
        let mut counts = if fits(&self.counts(0.0))? { self.counts(0.0) } else { self.counts(high) };
        let mut open: Vec<usize> = (0..counts.len()).collect();
        loop {
            // The channel with the highest score of those that went comes back first, and with it what rounding asks for.
            open.retain(|g| counts[*g] > 0);
            let last = |g: &usize| self.scores[*g][counts[*g] - 1];
            let Some(g) = open.iter().copied().max_by(|a, b| last(a).total_cmp(&last(b)).then(b.cmp(a))) else { break };
            let group = &self.channels.groups[g];
            let left = self.allowed(group, group.channels - counts[g] + 1);
            let before = std::mem::replace(&mut counts[g], group.channels - left);
            if !fits(&counts)? {
                counts[g] = before;
                open.retain(|other| *other != g);
            }
        }
        Ok(self.removal(&counts))
    }
}

impl Budget {
    /// What it counts, for people.
    pub fn unit(self) -> &'static str {
        match self {
            Budget::Channels => "channels",
            Budget::Macs => "MACs",
            Budget::Params => "parameters",
            Budget::Latency => "% of the time",
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Whether one of the patterns names the group, or a node that gives its channels.
fn kept_by(graph: &Graph, group: &ChannelGroup, keep: &[String], used: &mut [bool]) -> bool {
    let mut kept = false;
    let givers = || group.members.iter().filter_map(|m| graph.value(m.axis.value).producer);
    for (pattern, used) in keep.iter().zip(used) {
        if matches(pattern, &group.name) || givers().any(|id| matches(pattern, &graph.node(id).name)) {
            (kept, *used) = (true, true);
        }
    }
    kept
}

/// What tells kinds of groups apart: the operators that give its values, and how many of each there are.
fn kind(graph: &Graph, group: &ChannelGroup) -> Kind {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for member in &group.members {
        if let Some(producer) = graph.value(member.axis.value).producer {
            *kinds.entry(graph.node(producer).op.op_type().into()).or_default() += 1;
        }
    }
    kinds.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use penjing_graph::zoo::{ZooOptions, build};
    use proptest::prelude::*;

    #[test]
    fn patterns_by_hand() {
        assert!(matches("conv1", "conv1") && !matches("conv1", "conv10"));
        assert!(matches("*", "anything") && matches("layer*.conv1", "layer1.0.conv1") && !matches("layer*.conv1", "layer1.0.conv2"));
        assert!(matches("*conv*", "a.conv.b") && !matches("*conv*", "a.norm") && !matches("aa*a", "aa"));
    }

    fn selected(name: &str, limits: &Limits, scope: ChannelScope, share: f64) -> Vec<(usize, usize)> {
        let graph = build(name, &ZooOptions::default()).expect(name);
        let channels = Channels::find(&graph, false);
        let scores: Vec<Option<Vec<f32>>> =
            channels.groups.iter().map(|g| Some((0..g.channels).map(|c| (c * 7 % g.channels) as f32).collect())).collect();
        let selection = Selection::new(&graph, &channels, &scores, scope, limits).expect("a selection");
        selection.share(share).iter().zip(&channels.groups).map(|(removed, g)| (g.channels, removed.len())).collect()
    }

    #[test]
    fn a_quarter_of_every_layer() {
        let limits = Limits { round_to: 1, ..Limits::default() };
        // lenet-5: 20 and 50 maps, 500 units.
        assert_eq!(selected("lenet-5", &limits, ChannelScope::Layer, 0.25), [(20, 5), (50, 12), (500, 125)]);
        // What is left is a multiple of 8: 16 of 20, 40 of 50, 376 of 500.
        let rounded = Limits::default();
        assert_eq!(selected("lenet-5", &rounded, ChannelScope::Layer, 0.25), [(20, 4), (50, 10), (500, 124)]);
        let least = Limits { min_channels: 18, ..limits };
        assert_eq!(selected("lenet-5", &least, ChannelScope::Layer, 0.9), [(20, 2), (50, 32), (500, 450)]);
    }

    #[test]
    fn patterns_keep_groups_whole() {
        let limits = Limits { round_to: 1, keep: vec!["conv2*".into()], ..Limits::default() };
        let removed = selected("lenet-5", &limits, ChannelScope::Layer, 0.5);
        assert_eq!(removed, [(20, 10), (50, 0), (500, 250)]);
    }

    #[test]
    fn what_rounding_took_beyond_a_budget_is_given_back() {
        let graph = build("lenet-5", &ZooOptions::default()).expect("lenet-5");
        let channels = Channels::find(&graph, false);
        let scores: Vec<Option<Vec<f32>>> = channels.groups.iter().map(|g| Some(vec![1.0; g.channels])).collect();
        let limits = Limits::default();
        let selection = Selection::new(&graph, &channels, &scores, ChannelScope::Layer, &limits).expect("a selection");
        let half = selection.left(Budget::Macs, &vec![vec![]; 3]).expect("counted") / 2.0;
        let removal = selection.within(Budget::Macs, half).expect("within reach");
        let left = selection.left(Budget::Macs, &removal).expect("counted");
        // The largest step is 8 of 20 channels of the first layer, 0.4 of its share.
        assert!(left <= half && left > 0.8 * half, "{left} of {half}");
        let reach = selection.within(Budget::Macs, 1.0).expect_err("out of reach").to_string();
        assert!(reach.contains("1 MACs are asked for"), "{reach}");
    }

    proptest! {
        /// Whatever the scope and the limits, every group keeps enough, and what is left fills multiples.
        #[test]
        fn limits_hold(share in 0.0f64..=1.0, min in 1usize..40, round in prop_oneof![Just(1usize), Just(8), Just(16)], scope in 0usize..3) {
            let scope = [ChannelScope::Global, ChannelScope::Layer, ChannelScope::Isomorphic][scope];
            let limits = Limits { min_channels: min, round_to: round, keep: vec![] };
            for (channels, removed) in selected("resnet-20", &limits, scope, share) {
                let left = channels - removed;
                prop_assert!(left >= min.min(channels));
                prop_assert!(left == channels || left % round == 0, "{left} of {channels} by {round}");
            }
        }
    }
}
