//! Asks EC2 for the VPN connections that are due, each account in a task of its own, and never in the way of probing.
//!
//! A site without VPN connections loads nothing of AWS. Credentials and region are found out in the tasks, too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crosswatch_aws::{Failure, Kind, Session};
use crosswatch_ec2::{Ec2, Select, VpnConnection};
use crosswatch_host::retry::Backoff;
use crosswatch_shared::observation::Name;
use tokio::sync::OnceCell;
use tokio::task::{self, JoinSet};

use crate::resolve::until;
use crate::tunnels::{Answer, Asking, Call, Plan, Seen, throttled};

/// A site's polling.
pub(crate) struct Polls {
    site: Name,
    plan: Plan,
    accounts: Vec<Account>,
    session: Arc<OnceCell<Session>>,
    running: JoinSet<(Vec<Answer>, Duration)>,
    /// Whose each task is.
    of: HashMap<task::Id, usize>,
}

struct Account {
    access: Access,
    backoff: Backoff,
}

/// How an account is reached.
#[derive(Clone)]
struct Access {
    site: Name,
    region: Option<String>,
    role: Option<String>,
    session: Arc<OnceCell<Session>>,
    client: Arc<OnceCell<Ec2>>,
}

/// What came of asking an account.
#[derive(Debug)]
pub(crate) struct Polled {
    /// The tunnels.
    pub(crate) seen: Vec<Seen>,
    /// What is wrong at present, with any of the site's VPN connections.
    pub(crate) fault: Option<String>,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Polls {
    pub(crate) fn new(site: Name, plan: Plan) -> Self {
        let session = Arc::new(OnceCell::new());
        let accounts = plan.accounts().enumerate().map(|(place, (region, role))| {
            let every = plan.every(place);
            Account {
                access: Access {
                    site: site.clone(),
                    region: region.map(str::to_owned),
                    role: role.map(str::to_owned),
                    session: session.clone(),
                    client: Arc::default(),
                },
                // Varied by half, and so never beyond the deadline of three times `every`.
                backoff: Backoff::new(every, every * 2),
            }
        });
        let accounts = accounts.collect();
        Self { site, plan, accounts, session, running: JoinSet::new(), of: HashMap::new() }
    }

    /// Asks by this session instead of one of its own.
    pub(crate) fn set_session(&mut self, session: Session) {
        // Fails only where there is one already.
        let _ = self.session.set(session);
    }

    /// A probe of this link begins to fail.
    pub(crate) fn hasten(&mut self, link: &Name, now: Instant) {
        self.plan.hasten(link, now);
    }

    /// Waits for the next account's answers, and asks those that are due; for ever where there is none.
    pub(crate) async fn next(&mut self) -> Polled {
        loop {
            #[allow(clippy::disallowed_methods, reason = "polls follow the steady clock")]
            let now = Instant::now();
            for Asking { account, calls } in self.plan.begin(now) {
                if let Some(Account { access, .. }) = self.accounts.get(account) {
                    let task = self.running.spawn(poll(access.clone(), calls));
                    self.of.insert(task.id(), account);
                }
            }
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => {
                    let (id, answers, took) = match ended {
                        Ok((id, (answers, took))) => (id, answers, took),
                        Err(error) => {
                            tracing::error!(site = %self.site, %error, "a poll ended by a defect");
                            (error.id(), Vec::new(), Duration::ZERO)
                        }
                    };
                    if let Some(account) = self.of.remove(&id) {
                        return self.end(account, &answers, took);
                    }
                }
                () = until(self.plan.due()) => {}
            }
        }
    }

    fn end(&mut self, account: usize, answers: &[Answer], took: Duration) -> Polled {
        #[allow(clippy::disallowed_methods, reason = "polls follow the steady clock")]
        let now = Instant::now();
        for failure in answers.iter().filter_map(|answer| answer.failed.as_ref()) {
            tracing::warn!(site = %self.site, error = %failure, "VPN connections could not be polled");
        }
        let seen = self.plan.end(account, answers, now);
        if let Some(Account { backoff, .. }) = self.accounts.get_mut(account) {
            if throttled(answers) {
                self.plan.wait(account, now + backoff.pause());
            } else {
                backoff.reset();
            }
        }
        Polled { seen, fault: self.plan.fault(), took }
    }
}

async fn poll(access: Access, calls: Vec<Call>) -> (Vec<Answer>, Duration) {
    #[allow(clippy::disallowed_methods, reason = "how long the answers take")]
    let begun = Instant::now();
    let answers = match access.client().await {
        Ok(client) => {
            let mut answers = Vec::new();
            for call in calls {
                ask(client, call, &mut answers).await;
            }
            answers
        }
        Err(failure) => {
            let failed = |call: Call| Answer {
                watches: call.watches,
                connections: Vec::new(),
                failed: Some(failure.clone()),
            };
            calls.into_iter().map(failed).collect()
        }
    };
    (answers, begun.elapsed())
}

impl Access {
    async fn client(&self) -> Result<&Ec2, Failure> {
        let client = self.client.get_or_try_init(|| async {
            let session = self.session.get_or_init(Session::load).await;
            let mut session =
                self.region.as_deref().map_or_else(|| session.clone(), |region| session.in_region(region));
            if session.region().is_none() {
                return Err(Failure {
                    operation: "ec2:DescribeVpnConnections",
                    kind: Kind::Refused,
                    code: "NoRegion".to_owned(),
                    message: format!("no region is known: give [site.{}] region = \"…\"", self.site),
                });
            }
            if let Some(role) = &self.role {
                session = session.assuming(role, &self.site).await;
            }
            Ok(Ec2::new(&session))
        });
        client.await
    }
}

/// Makes a call. Where its answer is unreadable, whatever it asked for is asked for by itself, so that one odd connection
/// hides no other.
async fn ask(client: &Ec2, call: Call, answers: &mut Vec<Answer>) {
    let Call { select, watches, known } = call;
    let failure = match client.vpn_connections(&select).await {
        Ok(connections) => return answers.push(Answer { watches, connections, failed: None }),
        Err(failure) if failure.code != "BadAnswer" => {
            return answers.push(Answer { watches, connections: Vec::new(), failed: Some(failure) });
        }
        Err(failure) => failure,
    };
    let singly = match select {
        Select::Ids(ids) if ids.len() > 1 => ids.into_iter().map(|id| Select::Ids(vec![id])).collect(),
        Select::Tag { key, values } if values.len() > 1 => {
            let single = |value| Select::Tag { key: key.clone(), values: vec![value] };
            values.into_iter().map(single).collect()
        }
        _ => Vec::new(),
    };
    if singly.is_empty() {
        let connections = one_by_one(client, known).await;
        return answers.push(Answer { watches, connections, failed: Some(failure) });
    }
    for (select, watch) in singly.into_iter().zip(watches) {
        let answer = match (client.vpn_connections(&select).await, &select) {
            (Ok(connections), _) => Answer { watches: vec![watch], connections, failed: None },
            (Err(failure), Select::Tag { .. }) if failure.code == "BadAnswer" => {
                let connections = one_by_one(client, known.clone()).await;
                Answer { watches: vec![watch], connections, failed: Some(failure) }
            }
            (Err(failure), _) => {
                Answer { watches: vec![watch], connections: Vec::new(), failed: Some(failure) }
            }
        };
        answers.push(answer);
    }
}

/// Those of the connections known to have a tag that can be read.
async fn one_by_one(client: &Ec2, known: Vec<String>) -> Vec<VpnConnection> {
    let mut connections = Vec::new();
    for id in known {
        connections.extend(client.vpn_connections(&Select::Ids(vec![id])).await.unwrap_or_default());
    }
    connections
}
