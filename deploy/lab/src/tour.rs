//! `lab tour`: an outage from beginning to end, told step by step, with the commands by which it is done by hand.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use crosswatch_lab::{Cloud, Fault, Lab, Options, Process, Tunnel};

use crate::{beside, say};

/// Far longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The lab's link.
const LINK: &str = "use1-euw1";

/// How often it is looked whether a step is done.
const LOOK: Duration = Duration::from_millis(100);

/// What a tour's lab is like: with what this machine has, and probes five times a second of which five good ones clear, so that
/// nothing takes long.
pub(crate) fn options(folder: PathBuf, ministack: Option<PathBuf>) -> Result<Options> {
    let this = env::current_exe().context("cannot tell where 'lab' itself is")?;
    let program = beside(&this, "crosswatch");
    let cloud = match ministack.or_else(|| find_ministack(&this)) {
        Some(ministack) => Cloud::Gate { gate: beside(&this, "crosswatch-gate"), ministack },
        None => Cloud::None,
    };
    Ok(Options {
        cloud,
        plain: crosswatch_lab::missing().is_some(),
        every: Duration::from_millis(200),
        change_config: Box::new(|text| text.replace("clear = 30", "clear = 5")),
        ..Options::new(folder, program, this)
    })
}

/// In PATH, or where tests/run puts it: in the target folder that this program was built in.
fn find_ministack(this: &Path) -> Option<PathBuf> {
    let in_path =
        env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let tools = this.ancestors().nth(2).map(|target| target.join("tools"));
    let installed = tools.and_then(|tools| fs::read_dir(tools).ok()).into_iter().flatten().flatten();
    let installed = installed.map(|entry| entry.path().join("bin"));
    in_path.chain(installed).map(|folder| folder.join("ministack")).find(|program| program.is_file())
}

/// Walks through an outage; takes the lab down afterwards, unless it is to be kept.
pub(crate) fn run(options: Options, keep: bool) -> Result<()> {
    let (plain, has_aws) = (options.plain, options.cloud != Cloud::None);
    let begun = Instant::now();
    step(1, "two regions come up, in network namespaces of this machine")?;
    say(match (plain, has_aws) {
        (false, true) => {
            "Two IPsec tunnels join them over a WAN of 40 ms; a centre has publisher, alerter and a local AWS.\n"
        }
        (false, false) => {
            "Two IPsec tunnels join them over a WAN of 40 ms; a centre has publisher and alerter. There is no local AWS here\n\
             ('ministack' in PATH, or MINISTACK), so the journals themselves are the queue, and pages go to the alerter's log.\n"
        }
        (true, true) => {
            "A WAN of 40 ms joins them; a centre has publisher, alerter and a local AWS. There is no strongSwan here, so the\n\
             tunnels are only what EC2 is made to tell.\n"
        }
        (true, false) => {
            "A WAN of 40 ms joins them; a centre has publisher and alerter. There is neither strongSwan nor a local AWS here\n\
             ('ministack' in PATH, or MINISTACK): there are no tunnels, and pages go to the alerter's log.\n"
        }
    })?;
    let mut lab = Lab::up(options)?;
    let shown = wait("everything to be up", &lab, || {
        let status = status(&lab)?;
        let others = status.lines().filter(|line| !line.contains('@'));
        let up = others.clone().all(|line| line.contains(" up ") || line == "no open incidents");
        Ok((up && others.count() > 1).then_some(status))
    })?;
    show("crosswatch status", &shown)?;

    let (fault, by_hand, becomes) = if plain {
        (Fault::BlackHole, "lab fault black-hole", "what they send each other vanishes")
    } else {
        let both = Fault::TunnelDown { tunnel: Tunnel::Both };
        (both, "lab fault tunnel-down", "both tunnels are cut")
    };
    step(2, becomes)?;
    say(&format!("$ {by_hand}\n"))?;
    let cut = Instant::now();
    lab.fault(fault)?;

    step(3, "somebody is paged")?;
    let page = wait("the page", &lab, || told(&lab, "FIRING"))?;
    let after = cut.elapsed().as_secs_f64();
    say(&format!(
        "{after:.1} s after the cut {}:\n\n    {page}\n",
        if has_aws { "an SMS" } else { "a line" }
    ))?;

    step(4, "what is known of it")?;
    if plain {
        show("crosswatch status", &status(&lab)?)?;
    } else {
        say(
            "The page could not wait for the tunnels' ends to find out; the verdict follows when they have.\n",
        )?;
        let shown = wait("the verdict", &lab, || {
            let status = status(&lab)?;
            Ok(status.contains("incident tunnels-down").then_some(status))
        })?;
        show("crosswatch status", &shown)?;
    }
    explain(&lab)?;
    let incident = incident(&lab)?;

    step(5, "it is healed")?;
    say("$ lab heal\n")?;
    lab.heal()?;

    step(6, "the all-clear")?;
    let page = wait("the all-clear", &lab, || told(&lab, "RESOLVED"))?;
    say(&format!("To whom the page went, and once:\n\n    {page}\n\n"))?;
    show("crosswatch status", &status(&lab)?)?;

    step(7, "what is left of it")?;
    report(&lab, &incident)?;

    let folder = lab.folder().to_owned();
    if keep {
        lab.keep();
    } else {
        drop(lab);
    }
    farewell(&folder, keep, begun.elapsed())
}

fn farewell(folder: &Path, keep: bool, took: Duration) -> Result<()> {
    let folder = folder.display();
    say(&format!("\nThat took {} s. ", took.as_secs()))?;
    say(&if keep {
        format!(
            "The lab stays up: 'lab status', 'lab fault --help' has ten ways to break it, 'lab down' ends it.\n\
             Config, logs and data are in {folder}.\n"
        )
    } else {
        format!(
            "The lab is down again; 'lab tour --keep' leaves it up, to be broken in ten other ways ('lab fault --help').\n\
             What was seen is still there: crosswatch export --config {folder}/crosswatch.toml\n"
        )
    })
}

fn step(number: u32, what: &str) -> Result<()> {
    say(&format!("\n── {number} of 7: {what}\n\n"))
}

fn show(command: &str, printed: &str) -> Result<()> {
    say(&format!("$ {command}\n{printed}"))
}

fn status(lab: &Lab) -> Result<String> {
    tool(lab, &["status"])
}

/// Why it came to that verdict, where the program can say so.
fn explain(lab: &Lab) -> Result<()> {
    let told = Command::new(lab.program()).args(["explain", "--help"]).output();
    if told.is_ok_and(|output| output.status.success()) {
        let explained = tool(lab, &["explain", LINK])?;
        show(&format!("crosswatch explain {LINK}"), &explained)?;
    }
    Ok(())
}

/// The id of the incident that is open.
fn incident(lab: &Lab) -> Result<String> {
    let printed = tool(lab, &["status", "--format", "json"])?;
    let status: serde_json::Value = serde_json::from_str(&printed).context("what status printed")?;
    let id = status["incidents"][0]["id"].as_str().context("no incident is open any more")?;
    Ok(id.to_owned())
}

/// Has the incident written down, and says where.
fn report(lab: &Lab, incident: &str) -> Result<()> {
    let short = incident.get(..8).unwrap_or(incident);
    let file = lab.folder().join(format!("incident-{short}.html"));
    let out = file.display().to_string();
    let printed = tool(lab, &["report", incident, "--out", &out])?;
    show(&format!("crosswatch report {short} --out {out}"), &printed)?;
    say(
        "One file, for any browser, without a network: what happened when, who was told, and both directions drawn.\n",
    )
}

/// What a tool prints that reads files alone.
fn tool(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let output = Command::new(lab.program()).args(arguments).arg("--config").arg(lab.config_path()).output();
    let output = output.with_context(|| format!("cannot start {}", lab.program().display()))?;
    if !output.status.success() {
        bail!("crosswatch {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first page of this state: the SMS that the local AWS took, or without it the line that the alerter printed.
fn told(lab: &Lab, state: &str) -> Result<Option<String>> {
    if let Ok(gate) = lab.control() {
        let messages = gate.get("/messages")?;
        let texts = messages
            .as_array()
            .into_iter()
            .flatten()
            .filter(|message| message["to"].as_str().is_some_and(|to| to.starts_with('+')));
        let mut texts = texts.filter_map(|message| message["text"].as_str());
        return Ok(texts.find(|text| text.starts_with(state)).map(str::to_owned));
    }
    let path = lab.log_path(Process::Alerter);
    let log = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(log.lines().find(|line| line.contains(&format!(" {state} "))).map(str::to_owned))
}

/// Looks until there is something.
fn wait<T>(what: &str, lab: &Lab, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let since = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if since.elapsed() > PATIENCE {
            let (seconds, logs) = (PATIENCE.as_secs(), lab.folder().join("logs"));
            bail!("waited {seconds} s in vain for {what}; the logs are in {}", logs.display());
        }
        std::thread::sleep(LOOK);
    }
}
