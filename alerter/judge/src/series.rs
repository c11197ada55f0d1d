//! A series: one rule judged for one subject. It keeps the newest datapoints, the deadline and the state, and turns
//! what arrives into transitions.

pub(crate) mod judgement;

use std::collections::VecDeque;
use std::time::Duration;

use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::baseline::Baseline;
use crate::period::Periods;
use crate::reason;
use crate::rule::{Limits, Missing, Rule, Side, Threshold};
use crate::transition::{State, Transition};

/// How long after a period's end its observations may still come, in event time.
pub const GRACE: Duration = Duration::from_secs(2);

/// A datapoint's place: by boot in their order, then by time, then by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) boot: u32,
    pub(crate) at: Timestamp,
    /// The observation's number within the boot, plus one; zero for a datapoint that stands for missing data, so that
    /// a real one of the same time comes after it.
    pub(crate) seq: u64,
}

/// One rule, judged for one subject.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) rule: usize,
    pub(crate) subject: Name,
    pub(crate) link: Option<Name>,
    /// How long without a datapoint makes it unknown.
    deadline: Duration,
    /// How far apart the datapoints for missing data are.
    step: Duration,
    pub(crate) kept: Kept,
    /// What is usual of the subject, where the rule's threshold is of that.
    pub(crate) baseline: Option<Baseline>,
    /// The thresholds that the newest datapoint is judged by; `None` while there is no baseline to have them of.
    limits: Option<Limits>,
    count: Count,
    /// Whether `kept` has changed since it was last saved.
    pub(crate) changed: bool,
}

/// What of a series must survive a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) firing: bool,
    pub(crate) unknown: bool,
    /// The newest transition's time and value.
    pub(crate) since: Option<Timestamp>,
    pub(crate) value: Option<f64>,
    /// What the deadline counts from.
    last: Option<Timestamp>,
    /// When the deadline is reached, or the next datapoint for missing data is due.
    due: Option<Timestamp>,
    /// The newest datapoints in their order, as many as the rule looks at.
    newest: VecDeque<(Order, Value)>,
    /// What does not come after this is late: the newest datapoint for missing data, or the one that resolved with
    /// `clear`.
    floor: Option<Order>,
    /// What came after the deadline but before event time had reached it, in order: judged once the absence is certain.
    /// `None` restarts the deadline.
    early: VecDeque<(Order, Option<f64>)>,
    periods: Periods,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Value {
    #[serde(rename = "v")]
    Measured(f64),
    /// Stands for missing data; whether it breaches is the rule's choice.
    #[serde(rename = "m")]
    Missing,
}

/// What follows from the newest datapoints under the threshold of the present state; kept up to date, so that a
/// datapoint costs the same whatever N is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    /// How many of the newest N breach.
    breaching: usize,
    /// How many in a row, up to the newest, do not.
    good: usize,
}

impl Series {
    pub(crate) fn new(
        index: usize,
        rule: &Rule,
        subject: Name,
        link: Option<Name>,
        interval: Duration,
    ) -> Self {
        let step = rule.window.map_or(interval, |window| window.period.max(interval));
        let deadline = rule.deadline.unwrap_or(step * 3 + Duration::from_secs(5));
        let (kept, count) = (Kept::default(), Count::default());
        let of_baseline = matches!(rule.threshold, Threshold::OfBaseline { .. });
        let baseline = of_baseline.then(Baseline::default);
        let limits = rule.limits(None);
        Self { rule: index, subject, link, deadline, step, kept, baseline, limits, count, changed: false }
    }

    /// Takes up what was kept of an earlier life.
    pub(crate) fn restore(&mut self, rule: &Rule, kept: Kept) {
        self.kept = kept;
        if let Some(at) = self.newest_at() {
            self.limits = self.limits_at(rule, at);
        }
        self.recount(rule);
    }

    /// The rule means something else from `now` on: what it looks at is judged anew by that. What is unknown is judged with
    /// its next datapoint, since its newest are of the past.
    pub(crate) fn rejudge(&mut self, rule: &Rule, now: Timestamp, out: &mut Vec<Transition>) {
        self.changed = true;
        if rule.missing == Missing::Hold {
            self.kept.newest.retain(|(_, value)| *value != Value::Missing);
        }
        let most = most(rule);
        while self.kept.newest.len() > most {
            self.kept.newest.pop_front();
        }
        let waits = !self.kept.unknown || rule.missing != Missing::Hold;
        self.kept.due = self.kept.last.filter(|_| waits).map(|last| {
            // What stands for missing data already stays; the next comes after it.
            let floor = self.kept.floor.filter(|floor| self.kept.unknown && floor.seq == 0);
            (last + self.deadline).max(floor.map_or(Timestamp::MIN, |floor| floor.at + self.step))
        });
        if let Some(at) = self.newest_at() {
            self.limits = self.limits_at(rule, at);
        }
        self.recount(rule);
        let Count { breaching, good } = self.count;
        let Some(&(newest, value)) = self.kept.newest.back().filter(|_| !self.kept.unknown) else {
            return;
        };
        let value = match value {
            Value::Measured(measured) => Some(measured),
            Value::Missing => None,
        };
        let resolves = match rule.clear {
            Some(clear) => good >= clear,
            None => breaching < rule.breach.m,
        };
        let (state, reason) = match self.kept.firing {
            false if breaching >= rule.breach.m => {
                (State::Firing, reason::fired(rule, self.limits, breaching, value))
            }
            true if resolves => (State::Resolved, reason::resolved(rule, self.limits, breaching)),
            _ => return,
        };
        self.kept.firing = state == State::Firing;
        if state == State::Resolved && rule.clear.is_some() {
            self.kept.floor = self.kept.floor.max(Some(newest));
            self.kept.newest.clear();
        }
        self.recount(rule);
        // The edit decides it, not the datapoint: edited to and fro it is another incident each time.
        self.say(rule, now, state, value, reason::edited(&reason), out);
    }

    /// When the newest datapoint was, or else what the deadline counts from.
    fn newest_at(&self) -> Option<Timestamp> {
        self.kept.newest.back().map(|(newest, _)| newest.at).or(self.kept.last)
    }

    /// The thresholds that a datapoint of this time is judged by.
    fn limits_at(&self, rule: &Rule, at: Timestamp) -> Option<Limits> {
        rule.limits(self.baseline.as_ref().and_then(|baseline| baseline.at(at)))
    }

    /// The site has been seen for the first time: a deadline counts from now on.
    pub(crate) fn start(&mut self, at: Timestamp) {
        if self.kept.last.is_none() {
            self.restart(at);
        }
    }

    /// A boot was found to belong at this place among the site's: those that stood there and after it move up.
    pub(crate) fn make_place(&mut self, place: u32) {
        let Kept { newest, floor, early, periods, .. } = &mut self.kept;
        let newest = newest.iter_mut().map(|(order, _)| order);
        let early = early.iter_mut().map(|(order, _)| order);
        for order in newest.chain(early).chain(floor).chain(periods.orders()) {
            if order.boot >= place {
                order.boot = order.boot.saturating_add(1);
                self.changed = true;
            }
        }
    }

    /// Event time has gone back to `to`, because a new boot has an earlier clock: nothing more comes of the former one,
    /// and deadlines count from there.
    pub(crate) fn step_back(&mut self, rule: &Rule, to: Timestamp, out: &mut Vec<Transition>) {
        for (order, value) in std::mem::take(&mut self.kept.early) {
            self.apply(rule, order, value, out);
        }
        if let Some(baseline) = &mut self.baseline {
            baseline.step_back(to);
        }
        if self.kept.last.is_some_and(|last| last > to) {
            self.kept.last = Some(to);
            if self.kept.due.is_some() {
                self.kept.due = Some(to + self.deadline);
            }
            self.changed = true;
        }
    }

    /// The earliest event time at which something happens without further data.
    pub(crate) fn trigger(&self, rule: &Rule) -> Timestamp {
        let closes = rule.window.and_then(|window| self.kept.periods.closes(window));
        let early = self.kept.early.front().map(|(order, _)| order.at);
        [closes, self.kept.due, early].into_iter().flatten().min().unwrap_or(Timestamp::MAX)
    }

    /// Takes a value of the metric, or `None` for a sign that there is none to have; `false` if it is late.
    pub(crate) fn observe(
        &mut self,
        rule: &Rule,
        order: Order,
        value: Option<f64>,
        event_time: Option<Timestamp>,
        out: &mut Vec<Transition>,
    ) -> bool {
        self.changed = true;
        if let (Some(window), None) = (rule.window, value)
            && Periods::closed(window, order, event_time)
        {
            return false;
        }
        let (Some(window), Some(value)) = (rule.window, value) else {
            return self.arrive(rule, order, value, event_time, out);
        };
        let taken = self.kept.periods.add(window, order, value, event_time);
        if taken && rule.metric.restarts_on_any_outcome() {
            self.arrive(rule, order, None, event_time, out);
        }
        taken
    }

    /// Lets event time reach `now`: what falls due until then happens in the order in which it falls due.
    pub(crate) fn advance(&mut self, rule: &Rule, boot: u32, now: Timestamp, out: &mut Vec<Transition>) {
        loop {
            let trigger = self.trigger(rule);
            if trigger > now {
                return;
            }
            self.changed = true;
            if let Some(window) =
                rule.window.filter(|window| self.kept.periods.closes(*window) == Some(trigger))
            {
                if let Some((order, value)) = self.kept.periods.close(rule.metric, window) {
                    self.datapoint(rule, order, Value::Measured(value), out);
                }
            } else if self.kept.due == Some(trigger) {
                self.miss(rule, boot, trigger, out);
                self.skip(rule, now);
            } else if let Some((order, value)) = self.kept.early.pop_front() {
                self.apply(rule, order, value, out);
            }
        }
    }

    fn arrive(
        &mut self,
        rule: &Rule,
        order: Order,
        value: Option<f64>,
        event_time: Option<Timestamp>,
        out: &mut Vec<Transition>,
    ) -> bool {
        let ahead = event_time.is_none_or(|now| order.at > now);
        let after_deadline = self.kept.due.is_some_and(|due| order.at >= due);
        if ahead && (after_deadline || !self.kept.early.is_empty()) {
            let place = self.kept.early.partition_point(|(other, _)| *other <= order);
            self.kept.early.insert(place, (order, value));
            return true;
        }
        self.apply(rule, order, value, out)
    }

    fn apply(&mut self, rule: &Rule, order: Order, value: Option<f64>, out: &mut Vec<Transition>) -> bool {
        match value {
            Some(value) => self.datapoint(rule, order, Value::Measured(value), out),
            None if self.kept.floor.is_some_and(|floor| order < floor) => false,
            None => {
                self.restart(order.at);
                true
            }
        }
    }

    fn restart(&mut self, at: Timestamp) {
        if self.kept.unknown && self.kept.last.is_some_and(|last| at <= last) {
            // What is due stays due.
            return;
        }
        let last = self.kept.last.map_or(at, |last| last.max(at));
        self.kept.last = Some(last);
        // While unknown without datapoints for missing data there is nothing to wait for but data.
        if !self.kept.unknown {
            self.kept.due = Some(last + self.deadline);
        } else if self.kept.due.is_some() {
            let mut due = last + self.deadline;
            // The next one comes after those there are.
            while self.kept.floor.is_some_and(|floor| floor.seq == 0 && due <= floor.at) {
                due = due + self.step;
            }
            self.kept.due = Some(due);
        }
        self.changed = true;
    }

    /// The deadline is reached, or the next datapoint for missing data is due.
    fn miss(&mut self, rule: &Rule, boot: u32, at: Timestamp, out: &mut Vec<Transition>) {
        if !self.kept.unknown {
            self.kept.unknown = true;
            let reason = reason::unknown(self.deadline, self.kept.last.unwrap_or(at));
            self.say(rule, at, State::Unknown, None, reason, out);
        }
        if rule.missing == Missing::Hold {
            self.kept.due = None;
            return;
        }
        self.kept.due = Some(at + self.step);
        let order = Order { boot, at, seq: 0 };
        self.datapoint(rule, order, Value::Missing, out);
        self.kept.floor = self.kept.floor.max(Some(order));
    }

    /// Once all that the rule looks at stands for missing data, more of it changes nothing: it is passed over, so that a
    /// clock that jumps by years costs no more than one that jumps by minutes.
    fn skip(&mut self, rule: &Rule, now: Timestamp) {
        let newest = &self.kept.newest;
        let settled = newest.len() == most(rule) && newest.iter().all(|(_, value)| *value == Value::Missing);
        let (Some(due), Some(floor), true) = (self.kept.due, &mut self.kept.floor, settled) else { return };
        let early = self.kept.early.front().map_or(Timestamp::MAX, |(order, _)| order.at);
        let closes =
            rule.window.and_then(|window| self.kept.periods.closes(window)).unwrap_or(Timestamp::MAX);
        let until = now.min(early).min(closes);
        let step = i64::try_from(self.step.as_micros()).unwrap_or(i64::MAX).max(1);
        let steps = (until.as_micros() - due.as_micros()) / step;
        if steps > 0 {
            let due = due.as_micros() + steps * step;
            floor.at = Timestamp::from_micros(due - step);
            self.kept.due = Some(Timestamp::from_micros(due));
        }
    }

    /// A datapoint takes its place and is judged; `false` if it is late.
    fn datapoint(&mut self, rule: &Rule, order: Order, value: Value, out: &mut Vec<Transition>) -> bool {
        let newest = &mut self.kept.newest;
        let most = most(rule);
        let oldest = newest.front().filter(|_| newest.len() >= most).map(|(oldest, _)| *oldest);
        if self.kept.floor.is_some_and(|floor| order <= floor) || oldest.is_some_and(|oldest| order < oldest)
        {
            return false;
        }
        let is_newest = newest.back().is_none_or(|(newest, _)| *newest < order);
        if is_newest && self.baseline.is_some() {
            let limits = self.limits_at(rule, order.at);
            if limits != self.limits {
                // All of the newest are judged by the threshold of the present.
                self.limits = limits;
                self.recount(rule);
            }
        }
        let newest = &mut self.kept.newest;
        if is_newest {
            newest.push_back((order, value));
            self.count.push(rule, self.limits, self.kept.firing, newest);
        } else {
            let place = newest.partition_point(|(other, _)| *other < order);
            newest.insert(place, (order, value));
        }
        if newest.len() > most {
            newest.pop_front();
        }
        if !is_newest {
            self.recount(rule);
        }
        let measured = match value {
            Value::Measured(measured) => Some(measured),
            Value::Missing => None,
        };
        let returned = measured.is_some()
            && self.kept.unknown
            && (is_newest || self.kept.last.is_none_or(|last| order.at > last));
        if measured.is_some() {
            if returned {
                self.kept.unknown = false;
            }
            self.restart(order.at);
        }
        let said = self.decide(rule, order, measured, out);
        if returned && !said {
            let state = if self.kept.firing { State::Firing } else { State::Ok };
            self.say(rule, order.at, state, measured, reason::returned(self.kept.firing), out);
        }
        true
    }

    /// Fires or resolves; `true` if it did.
    fn decide(&mut self, rule: &Rule, order: Order, value: Option<f64>, out: &mut Vec<Transition>) -> bool {
        let Count { breaching, good } = self.count;
        if !self.kept.firing {
            if breaching < rule.breach.m {
                return false;
            }
            self.kept.firing = true;
            self.recount(rule);
            self.say(
                rule,
                order.at,
                State::Firing,
                value,
                reason::fired(rule, self.limits, breaching, value),
                out,
            );
            return true;
        }
        let resolves = match rule.clear {
            // The datapoint itself makes the row long enough: one out of place may find it so.
            Some(clear) => {
                let mut row = self.kept.newest.iter().rev().take(clear);
                good >= clear && row.any(|(place, _)| *place == order)
            }
            None => breaching < rule.breach.m,
        };
        if resolves {
            self.kept.firing = false;
            if rule.clear.is_some() {
                // The count starts anew: what has been counted up to here is over.
                self.kept.floor = self.kept.floor.max(self.kept.newest.back().map(|(newest, _)| *newest));
                self.kept.newest.clear();
            }
            self.recount(rule);
            self.say(
                rule,
                order.at,
                State::Resolved,
                value,
                reason::resolved(rule, self.limits, breaching),
                out,
            );
        }
        resolves
    }

    fn recount(&mut self, rule: &Rule) {
        let breaches = |(_, value): &&(Order, Value)| breaches(rule, self.limits, self.kept.firing, *value);
        let newest = || self.kept.newest.iter().rev();
        self.count = Count {
            breaching: newest().take(rule.breach.n).filter(breaches).count(),
            good: newest().take_while(|datapoint| !breaches(datapoint)).count(),
        };
    }

    fn say(
        &mut self,
        rule: &Rule,
        at: Timestamp,
        state: State,
        value: Option<f64>,
        reason: String,
        out: &mut Vec<Transition>,
    ) {
        (self.kept.since, self.kept.value) = (Some(at), value);
        out.push(Transition {
            at,
            state,
            rule: rule.name.clone(),
            rule_index: self.rule,
            subject: self.subject.clone(),
            link: self.link.clone(),
            value,
            reason,
        });
    }
}

impl Count {
    /// Takes the newest datapoint into account, which stands last in `newest`.
    fn push(&mut self, rule: &Rule, limits: Option<Limits>, firing: bool, newest: &VecDeque<(Order, Value)>) {
        let at =
            |index: usize| newest.get(index).is_some_and(|(_, value)| breaches(rule, limits, firing, *value));
        let last = newest.len() - 1;
        if at(last) {
            self.breaching += 1;
            self.good = 0;
        } else {
            self.good += 1;
        }
        if last.checked_sub(rule.breach.n).is_some_and(at) {
            self.breaching -= 1;
        }
    }
}

/// How many datapoints the rule looks at.
fn most(rule: &Rule) -> usize {
    rule.breach.n.max(rule.clear.unwrap_or(1))
}

fn breaches(rule: &Rule, limits: Option<Limits>, firing: bool, value: Value) -> bool {
    let value = match value {
        Value::Measured(value) => value,
        Value::Missing => return rule.missing == Missing::Breach,
    };
    let Some(limits) = limits else {
        return false;
    };
    match (rule.side, limits.clear.filter(|_| firing)) {
        (Side::Below, None) => value < limits.threshold,
        (Side::Above, None) => value > limits.threshold,
        // While firing, what equals the threshold is not on its far side.
        (Side::Below, Some(clear)) => value <= clear,
        (Side::Above, Some(clear)) => value >= clear,
    }
}
