//! A day lived through: the alerter's real loop, over and over from its death on, until all of the day is over and settled.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_host::health::Health as Healths;
use crosswatch_queue::Source;
use crosswatch_shared::time::Timestamp;
use prometheus_client::registry::Registry;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::books::{self, Lives, Waiting};
use super::broker::Broker;
use super::days::Day;
use super::disk::{Disk, Health};
use super::fate::{Fate, Step};
use super::receivers::Receivers;
use super::time::Time;
use super::weather::{self, Event, Pass};
use crate::edit::Edit;
use crate::error::Error;
use crate::notify::World;
use crate::run::{Alerter, Outside};
use crate::silences::{self, Known};

/// After so many deaths the rest of a day is spared.
const DEATHS: usize = 60;

/// How far the clock is set on while something is held back, and how often at most.
const JUMPS: (Duration, usize) = (Duration::from_secs(600), 200);

/// How long is waited between two looks at what is owed.
const SETTLES: Duration = Duration::from_secs(8);

/// So long nothing that may be tried is accepted, while all is well: a minute's pause and a try.
const PATIENCE: Duration = Duration::from_secs(75);

/// So long after all was delivered a gap was waited for in vain.
const GAPS: Duration = Duration::from_secs(45);

/// A day and all that the alerter meets in it.
pub(crate) struct Stage<'a> {
    day: &'a Day,
    folder: &'a Path,
    rng: fastrand::Rng,
    pub(crate) time: Time,
    pub(crate) broker: Broker,
    pub(crate) receivers: Receivers,
    disk: Disk,
    events: std::vec::IntoIter<(Timestamp, Event)>,
    next: Option<(Timestamp, Event)>,
    over: bool,
    /// The disk is not well since then.
    unwell: Option<Duration>,
    pub(crate) lives: Lives,
    pub(crate) wrong: Vec<String>,
}

/// Why a life is interrupted.
enum Turn {
    Stop,
    Kill,
    /// Stopped or killed, and started again then.
    Away(Pass, Timestamp),
    /// All is settled.
    Done,
}

impl<'a> Stage<'a> {
    pub(crate) fn set(seed: u64, day: &'a Day, folder: &'a Path) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut events = weather::draw(&mut rng, day).into_iter();
        let time = Time::begin(day.begin);
        let next = events.next();
        Self {
            broker: Broker::new(rng.u64(..), &time, day.world.keeps_order, &day.sends),
            receivers: Receivers::new(rng.u64(..), &time, folder.join("alerter.db")),
            disk: Disk::attach(),
            day,
            folder,
            time,
            rng,
            events,
            next,
            over: false,
            unwell: None,
            lives: Lives::default(),
            wrong: Vec::new(),
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("alerter.db")
    }

    /// Lives through the day.
    pub(crate) async fn play(&mut self) {
        drop(self.open(&Fate::of(None), true).expect("the first start has no trouble"));
        books::keep(&self.file()).expect("the file is there");
        while !self.live().await && self.wrong.is_empty() {}
    }

    fn open(&self, fate: &Fate, reads: bool) -> Result<Alerter, Error> {
        let (broker, whose) = (self.broker.clone(), fate.clone());
        let source = Source::new(move |places| Ok(broker.open(places, &whose)));
        let world = World::Simulated(self.receivers.clone());
        let outside = Outside { clock: self.time.clock(), world, peer: None };
        let mut topology = self.day.world.topology.clone();
        topology.queue.path = self.folder.to_owned();
        let part = Healths::default().part("alerter");
        let (config, mut registry) = (self.day.world.config.clone(), Registry::default());
        let known = Known::of(&topology, &config);
        let mut alerter =
            Alerter::open_in(outside, config, &topology, &self.file(), source, &mut registry, part)?;
        // Once they were in force they stay so, also where a later start cannot read them.
        if reads {
            let text = self.day.hush.text().into_bytes();
            let all = silences::parse(&text, silences::FILE.as_ref(), Some(&known), self.time.wall());
            let all = all.expect("what is drawn can be read");
            let file = silences::FILE.into();
            alerter.take(&Edit::Silences { file, text, all })?.expect("they can be taken over");
        }
        Ok(alerter)
    }

    /// One life, from its start to its end and a while after it; `true` for the last.
    async fn live(&mut self) -> bool {
        let life = self.lives.ends.len();
        let fate = self.fate(life);
        self.disk.used_by(&fate);
        self.receivers.told_by(life, &fate);
        let reads = self.rng.bool();
        let (turn, abrupt) = match self.open(&fate, reads) {
            Ok(alerter) => self.run(alerter, &fate).await,
            Err(error) => {
                self.blame(&fate, &error);
                (None, true)
            }
        };
        // What was spawned is dropped by the runtime when it comes to it.
        let runtime = tokio::runtime::Handle::current();
        while runtime.metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
        self.lives.ends.push(self.time.awake());
        if abrupt && self.rng.u8(..4) == 0 {
            self.disk.lose_power();
        }
        self.disk.used_by(&Fate::of(None));
        match turn {
            Some(Turn::Done) => return true,
            Some(Turn::Away(_, until)) => self.time.suspend_until(until),
            _ => {
                let pause = Duration::from_millis(self.rng.u64(..5_000));
                tokio::select! {
                    biased;
                    () = sleep(pause) => {}
                    _ = self.script(None) => {}
                }
            }
        }
        false
    }

    /// Runs it until it ends: why it was interrupted, and whether it was not asked before.
    async fn run(&mut self, alerter: Alerter, fate: &Fate) -> (Option<Turn>, bool) {
        let stop = CancellationToken::new();
        let mut run = std::pin::pin!(alerter.run(stop.clone()));
        let turn = tokio::select! {
            biased;
            () = fate.died() => return (None, true),
            ended = &mut run => {
                if let Err(error) = ended {
                    self.blame(fate, &error);
                }
                return (None, true);
            }
            turn = self.script(Some(fate)) => turn,
        };
        if matches!(turn, Turn::Kill | Turn::Away(Pass::Killed, _)) {
            fate.kill();
            return (Some(turn), true);
        }
        stop.cancel();
        let ended = tokio::select! {
            biased;
            () = fate.died() => return (Some(turn), true),
            ended = run => ended,
        };
        if let Err(error) = ended {
            self.blame(fate, &error);
        }
        (Some(turn), false)
    }

    fn fate(&mut self, life: usize) -> Fate {
        if self.over || life > DEATHS {
            return Fate::of(None);
        }
        let most = 1 << self.rng.u32(1..14);
        let step = self.rng.i64(0..most);
        Fate::of(match self.rng.u8(..12) {
            0 => None,
            1..6 => Some((Step::Queue, step)),
            6..11 => Some((Step::Disk, step)),
            _ => Some((Step::Receiver, step / 64)),
        })
    }

    /// An end by itself is a defect, unless the disk was at fault.
    fn blame(&mut self, fate: &Fate, error: &Error) {
        if !fate.is_dead() && self.disk.health() == Health::Well {
            self.wrong.push(format!("{}: the alerter ended: {error}", self.time.now()));
        }
    }

    /// What happens meanwhile, until the alerter's life is to be interrupted. May be dropped and called again.
    async fn script(&mut self, fate: Option<&Fate>) -> Turn {
        while let Some((at, _)) = self.next {
            sleep(at.since(self.time.now())).await;
            if self.time.now() < at {
                continue;
            }
            let Some((_, event)) = std::mem::replace(&mut self.next, self.events.next()) else { break };
            match event {
                Event::Disk(health) => self.disk_is(health),
                Event::QueueIsDown(down) => self.broker.is_down(down),
                Event::QueueIsSlow(slow) => self.broker.is_slow(slow),
                Event::Receiver(to, manner) => self.receivers.behaves(&to, manner),
                Event::Wall(ahead) => self.time.set_wall(ahead),
                Event::Stop if fate.is_some() => return Turn::Stop,
                Event::Kill if fate.is_some() => return Turn::Kill,
                Event::Stop | Event::Kill => {}
                Event::Quiet(until, pass) => match pass {
                    Pass::Stopped | Pass::Killed if fate.is_some() => return Turn::Away(pass, until),
                    Pass::Stalled => self.time.stall_until(until).await,
                    _ => self.time.suspend_until(until),
                },
            }
        }
        sleep(self.day.end().since(self.time.now())).await;
        if !self.over {
            self.over = true;
            self.disk_is(Health::Well);
            self.broker.is_over();
            self.broker.is_down(false);
            self.broker.is_slow(false);
            self.receivers.all_well();
        }
        let visible = self.broker.all_visible().map_or(Duration::ZERO, |at| at.since(self.time.now()));
        sleep(visible + GAPS).await;
        self.settle().await;
        Turn::Done
    }

    /// All is well: waits until nothing is owed, and sets the clock on for what limits hold back.
    async fn settle(&mut self) {
        let (mut jumps, mut idle, mut before) = (0, Duration::ZERO, 0);
        while self.wrong.is_empty() {
            sleep(SETTLES).await;
            let waiting = match Waiting::read(&self.file()) {
                Ok(waiting) => waiting,
                Err(error) => {
                    self.wrong.push(format!("its file cannot be read: {error}"));
                    return;
                }
            };
            idle = if waiting.owed == before { idle + SETTLES } else { Duration::ZERO };
            before = waiting.owed;
            let read = self.broker.is_read(&waiting.places);
            if waiting.owed > 0 && idle <= PATIENCE {
                continue;
            }
            if waiting.owed == 0 && waiting.held == 0 && read {
                return;
            }
            if waiting.owed > 0 || jumps == JUMPS.1 {
                self.wrong.push(format!("it does not settle; all read: {read}; {waiting:?}"));
            }
            jumps += 1;
            self.time.suspend_until(self.time.now() + JUMPS.0);
        }
    }

    fn disk_is(&mut self, health: Health) {
        let awake = self.time.awake();
        self.disk.set(health);
        match (health, self.unwell) {
            (Health::Well, Some(since)) => {
                self.unwell = None;
                self.lives.unwell.push((since, awake));
            }
            (Health::Full | Health::Failing, None) => self.unwell = Some(awake),
            _ => {}
        }
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        Disk::detach();
    }
}
