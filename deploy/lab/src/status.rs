//! How a lab is, for people.

use std::fmt;
use std::path::PathBuf;

use crate::error::Result;
use crate::fault::Fault;
use crate::lab::Lab;
use crate::process::Process;
use crate::wan::Report;
use crate::{AWS, Site};

/// A picture of a lab; its text is what `lab status` prints.
#[derive(Clone, Debug)]
pub struct Status {
    /// Each process, its id while it runs, and whether it answers or why not.
    pub processes: Vec<(Process, Option<i32>, Result<(), String>)>,
    /// Which tunnels each region's end has up, or why that is not known; `None` in a plain lab.
    pub tunnels: Result<Option<[[bool; 2]; 2]>, String>,
    /// What is broken.
    pub faults: Vec<Fault>,
    /// What the WAN does, or why that is not known.
    pub wan: Result<Report, String>,
    /// The names of the namespaces: of the regions and of the centre.
    pub namespaces: [String; 3],
    /// Where everything is.
    pub folder: PathBuf,
    aws: bool,
}

impl Status {
    /// Looks at everything.
    #[must_use]
    pub fn of(lab: &Lab) -> Self {
        let processes = lab.processes();
        let aws = processes.contains(&Process::Aws);
        let look = |process| (process, lab.pid(process), lab.health(process));
        let [near, far] = Site::ALL.map(|site| lab.region(site).name().to_owned());
        Self {
            processes: processes.into_iter().map(look).collect(),
            tunnels: tunnels(lab).map_err(|error| error.to_string()),
            faults: lab.faults().to_vec(),
            wan: lab.wan().report().map_err(|error| error.to_string()),
            namespaces: [near, far, lab.centre().name().to_owned()],
            folder: lab.folder().to_owned(),
            aws,
        }
    }

    /// Whether every process answers.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.processes.iter().all(|(_, _, health)| health.is_ok())
    }
}

fn tunnels(lab: &Lab) -> Result<Option<[[bool; 2]; 2]>> {
    let [near, far] = Site::ALL.map(|site| lab.tunnels(site));
    Ok(near?.zip(far?).map(<[_; 2]>::from))
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (process, pid, health) in &self.processes {
            let process = process.to_string();
            let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let health = health.as_ref().map_or_else(String::as_str, |()| "up");
            writeln!(f, "process    {process:<20} {pid:>8}  {health}")?;
        }
        match &self.wan {
            Ok(report) => {
                for (from, (policy, counts)) in
                    Site::ALL.into_iter().zip(report.policies.iter().zip(&report.counts))
                {
                    let gone = counts.lost + counts.overflowed + counts.refused;
                    writeln!(
                        f,
                        "wan        from {from}: {} ms, loss {:.1} %; {} packets delivered, {gone} lost",
                        policy.delay.as_millis(),
                        100.0 * policy.loss,
                        counts.delivered,
                    )?;
                }
            }
            Err(why) => writeln!(f, "wan        {why}")?,
        }
        match &self.tunnels {
            Ok(ends) => {
                for (site, ups) in Site::ALL.into_iter().zip(ends.iter().flatten()) {
                    let [first, second] = ups.map(|up| if up { "UP" } else { "DOWN" });
                    writeln!(f, "tunnels    at {site}: {first}, {second}")?;
                }
            }
            Err(why) => writeln!(f, "tunnels    {why}")?,
        }
        if self.faults.is_empty() {
            writeln!(f, "fault      none")?;
        }
        for fault in &self.faults {
            writeln!(f, "fault      {}", fault.describe())?;
        }
        for namespace in &self.namespaces {
            writeln!(f, "namespace  {namespace}")?;
        }
        if self.aws {
            writeln!(f, "aws        http://{AWS}, in the namespaces")?;
        }
        writeln!(f, "files      {}: crosswatch.toml, logs/, data/", self.folder.display())
    }
}
