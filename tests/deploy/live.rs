//! The package under a systemd that runs: installed, started, watched, upgraded and removed on a Debian of its own, and installed from
//! the tar as an instance of `deploy/aws` does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crosswatch_tests::deployment::{assert_each_once, json_lines, wait_until};
use crosswatch_tests::machine::Machine;
use crosswatch_tests::root::require_root;
use crosswatch_tests::tools::require;
use serde_json::Value;

use super::package::{Packages, packages};

/// Nobody listens at port 9: that probe is refused, and pages.
const CONFIG: &str = r#"
[site.here]
[[link]]
name = "loopback"
between = ["here"]
probe = [
  { from = "here", name = "v4", icmp = "127.0.0.1", every = "100ms" },
  { from = "here", name = "v6", icmp = "::1", every = "100ms" },
  { from = "here", name = "nobody", tcp = "127.0.0.1:9" },
]
[queue]
kind = "embedded"
path = "/var/lib/crosswatch"
[[rule]]
name = "refused"
metric = "ping_ok"
below = 1
breach = "2 of 2"
notify = ["oncall"]
[notify.oncall]
console = true
"#;
const FILE: &str = "/etc/crosswatch/crosswatch.toml";
const SILENCES: &str = "/var/lib/crosswatch/silences.toml";

/// `CAP_NET_RAW`, alone, as `/proc/PID/status` has it.
const NET_RAW: &str = "0000000000002000";
const NONE: &str = "0000000000000000";

const STAGES: [&str; 3] = ["crosswatch-alerter", "crosswatch-collector@here", "crosswatch-publisher"];

fn booted(test: &str) -> Option<(Machine, &'static Packages)> {
    if !require_root(test) {
        return None;
    }
    let base = require("DEBIAN_ROOT", test)?;
    let packages = packages(test)?;
    Some((Machine::boot(&base), packages))
}

/// With the package, and a config.
fn installed(test: &str) -> Option<Machine> {
    let (machine, packages) = booted(test)?;
    fs::copy(&packages.deb, machine.path("/root/crosswatch.deb")).unwrap();
    install(&machine);
    machine.write(FILE, CONFIG);
    Some(machine)
}

fn install(machine: &Machine) {
    machine.run("dpkg --install --force-unsafe-io /root/crosswatch.deb");
}

/// The state of a probe that `crosswatch status`, called by root, tells; empty before there is one.
fn state(machine: &Machine, probe: &str) -> String {
    let status: Value =
        serde_json::from_str(&machine.run(&format!("crosswatch status --format json --config {FILE}")))
            .unwrap();
    let probes = status["links"][0]["probes"].as_array().unwrap();
    let found = probes
        .iter()
        .find(|of| of["subject"] == format!("loopback/here/{probe}"))
        .unwrap_or_else(|| panic!("{status:#}"));
    found["state"].as_str().unwrap_or_default().to_owned()
}

/// The main process of a unit that runs.
fn running(machine: &Machine, unit: &str) -> Option<u32> {
    let shown = machine.run(&format!("systemctl show --property ActiveState,SubState,MainPID {unit}"));
    let shown: BTreeSet<&str> = shown.lines().collect();
    let process = shown.iter().find_map(|line| line.strip_prefix("MainPID="))?;
    let runs = shown.contains("ActiveState=active") && shown.contains("SubState=running");
    runs.then(|| process.parse().unwrap())
}

/// What runs in a unit is nobody but itself, has these capabilities and no way to others, and can write to its folder alone.
fn assert_confined(machine: &Machine, unit: &str, capabilities: &str) {
    let process = machine.main_process(unit);
    let status = machine.run(&format!("cat /proc/{process}/status"));
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("{name}: {status}")).split_whitespace().collect::<Vec<_>>()
    };
    let user = machine.run("id --user crosswatch");
    assert_ne!(user, "0");
    assert_eq!(field("Uid"), [&*user; 4], "{unit}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), [capabilities], "{unit}: {set}");
    }
    assert_eq!(field("NoNewPrivs"), ["1"], "{unit}");
    assert_eq!(field("Seccomp"), ["2"], "{unit}: it filters system calls");

    // As its user, where it is. Sockets and devices are what they are, also where nothing can be written.
    let writable = machine.run(&format!(
        "nsenter --target {process} --mount setpriv --reuid crosswatch --regid crosswatch --clear-groups --bounding-set=-all \
         find / -path /proc -prune -o -path /var/lib/crosswatch -print -prune -o -writable -type d -print -o -writable -type f -print \
         2>/dev/null || true"
    ));
    let writable: BTreeSet<&str> = writable.lines().collect();
    // /tmp and /var/tmp are its own.
    assert_eq!(writable, BTreeSet::from(["/tmp", "/var/lib/crosswatch", "/var/tmp"]), "{unit}");
    machine.run(&format!("touch /tmp/ours; test ! -e /proc/{process}/root/tmp/ours"));
}

#[test]
fn an_installed_package_starts_nothing_and_what_is_started_probes_and_may_do_nothing_else() {
    let test = "an_installed_package_starts_nothing_and_what_is_started_probes_and_may_do_nothing_else";
    let Some(machine) = installed(test) else { return };
    assert_eq!(machine.run("systemctl list-units --all --plain --no-legend 'crosswatch*'"), "");
    let files = machine.run("systemctl list-unit-files --no-legend 'crosswatch*'");
    assert!(!files.contains(" enabled "), "{files}");

    // systemd waits for READY=1, and then it listens.
    machine.run("systemctl start crosswatch.service");
    let health = machine.get("127.0.0.1:9464".parse().unwrap(), "/healthz").unwrap();
    assert_eq!(health.status, 200, "{health:?}");
    assert_confined(&machine, "crosswatch.service", NET_RAW);
    // Without ping sockets, which the kernel allows nobody at first, pings are raw.
    let sockets = |family: &str| {
        let user = machine.run("id --user crosswatch");
        let sockets = machine.run(&format!("cat /proc/net/{family}"));
        sockets.lines().filter(|line| line.split_whitespace().nth(7) == Some(&user)).count()
    };
    let up = || ["v4", "v6"].iter().all(|probe| state(&machine, probe) == "up");
    wait_until("pings are answered", up);
    // One each, and for a moment another where evidence is captured.
    assert!(sockets("raw") > 0 && sockets("raw6") > 0);
    assert_eq!([sockets("icmp"), sockets("icmp6")], [0, 0]);

    machine
        .run("echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range; systemctl restart crosswatch.service");
    wait_until("they are sent by ping sockets", || sockets("icmp") > 0 && sockets("icmp6") > 0);
    wait_until("and answered", up);
    assert_eq!([sockets("raw"), sockets("raw6")], [0, 0]);

    let logged = |what: &str| machine.run("journalctl --unit crosswatch.service").contains(what);
    wait_until("the page of what is refused", || logged("FIRING"));
    // By its own protocol, with routes and sizes: all that it takes is allowed.
    let evidence = || {
        let status = machine.run(&format!("crosswatch status --config {FILE}"));
        status.contains("reaches 127.0.0.1 at hop 1")
            && status.contains("dev lo")
            && status.contains("bytes pass")
    };
    wait_until("the evidence of it", evidence);
    machine.write(FILE, &CONFIG.replace("2 of 2", "3 of 3"));
    machine.run("systemctl reload crosswatch.service");
    wait_until("an edited rule is taken over", || logged("breach 2 of 2 -> 3 of 3"));

    // The same as separate stages.
    machine.run("systemctl stop crosswatch.service");
    machine.run(&format!("systemctl start {}", STAGES.join(" ")));
    for (unit, capabilities) in STAGES.into_iter().zip([NONE, NET_RAW, NONE]) {
        assert_confined(&machine, unit, capabilities);
    }
    for port in [9464, 9465, 9466] {
        let ready = || machine.get(([127, 0, 0, 1], port).into(), "/readyz").is_ok_and(|of| of.status == 200);
        wait_until(&format!("{port} is ready"), ready);
    }
}

#[test]
fn a_stage_that_hangs_or_is_killed_is_started_again_and_one_that_is_stopped_loses_nothing() {
    let test = "a_stage_that_hangs_or_is_killed_is_started_again_and_one_that_is_stopped_loses_nothing";
    let Some(machine) = installed(test) else { return };
    let unit = "crosswatch.service";
    machine.run("systemctl start crosswatch.service");
    assert_eq!(machine.property(unit, "WatchdogUSec"), "2min");
    let impatient = "[Service]\nWatchdogSec=2s\nRestartSec=100ms\n";
    machine.write("/etc/systemd/system/crosswatch.service.d/impatient.conf", impatient);
    machine.run("systemctl daemon-reload; systemctl restart crosswatch.service");
    wait_until("something is observed", || state(&machine, "v4") == "up");
    for (signal, restarts) in [("STOP", "1"), ("KILL", "2")] {
        let process = machine.main_process(unit);
        machine.run(&format!("kill -{signal} {process}"));
        wait_until("it is started again", || {
            machine.property(unit, "NRestarts") == restarts && running(&machine, unit).is_some()
        });
        assert_ne!(machine.main_process(unit), process);
    }
    let log = machine.run("journalctl --unit crosswatch.service");
    assert!(log.contains("Watchdog timeout"), "{log}");

    machine.run("systemctl stop crosswatch.service");
    assert_eq!(machine.property(unit, "Result"), "success", "it ended by itself, in time");
    let observed = json_lines(&machine.run(&format!("crosswatch export --config {FILE}")));
    assert_eq!(assert_each_once(&observed), 4, "lives");
}

#[test]
fn what_root_does_by_hand_reaches_the_stages() {
    let Some(machine) = installed("what_root_does_by_hand_reaches_the_stages") else { return };
    let logged = |unit: &str, what: &str| machine.run(&format!("journalctl --unit {unit}")).contains(what);
    machine.run(&format!("systemctl start {}", STAGES.join(" ")));
    wait_until("the page", || logged("crosswatch-alerter", "FIRING"));

    // Each hop answers, which an own user's folder once hid from the stages.
    let drill = machine.run(&format!("crosswatch drill --config {FILE}"));
    assert!(drill.contains("collector observed it"), "{drill}");
    let drill = machine.run(&format!("crosswatch drill --config {FILE}"));
    assert!(drill.contains("collector observed it"), "once more: {drill}");

    machine.write(FILE, &CONFIG.replace("2 of 2", "3 of 3"));
    machine.run("systemctl reload crosswatch-alerter");
    wait_until("the rule is taken over", || logged("crosswatch-alerter", "breach 2 of 2 -> 3 of 3"));
    machine.run(&format!("crosswatch silence add --config {FILE} --link loopback --for 1h --why work"));
    wait_until("the silence is taken over", || logged("crosswatch-alerter", "the silences are in force"));

    // Without a config named it is that of the machine; for whom that is hidden there is no other in its place.
    assert_eq!(machine.run("crosswatch silence list | wc --lines"), "1");
    let hidden = machine.output("setpriv --reuid nobody --clear-groups crosswatch status");
    let said = String::from_utf8_lossy(&hidden.stderr).into_owned();
    assert_eq!(hidden.status.code(), Some(2), "{said}");
    assert!(said.contains(FILE) && said.contains("sudo"), "{said}");

    // Put back from what was exported, the journal of that is the stages', too.
    machine.run(&format!(
        "crosswatch export --config {FILE} >/root/seen.jsonl; \
         crosswatch replay --config {FILE} --from /root/seen.jsonl --into queue"
    ));
    let foreign = machine.run("find /var/lib/crosswatch ! -user crosswatch");
    assert_eq!(foreign, "", "each file is the stages'");
    for unit in STAGES {
        assert!(running(&machine, unit).is_some(), "{unit}: {}", machine.log());
    }
}

/// The stand-in for the AWS CLI: what is there is handed out.
const AWS: &str = "#!/bin/sh\nset -eu\ntest \"$1 $2 $3 $4\" = 's3 cp --quiet s3://bucket/crosswatch.toml'\ncp /srv/crosswatch.toml \"$5\"\n";

#[test]
fn an_instance_fetches_its_config_and_every_stage_that_is_enabled_is_started_with_it_and_again_with_each_new_one()
 {
    let test = "an_instance_fetches_its_config_and_every_stage_that_is_enabled_is_started_with_it_and_again_with_each_new_one";
    let Some((machine, packages)) = booted(test) else { return };
    fs::copy(&packages.tar, machine.path("/tmp/crosswatch.tar.gz")).unwrap();
    machine.write("/usr/local/bin/aws", AWS);
    machine.write("/srv/crosswatch.toml", CONFIG);
    // It looks twice a minute otherwise.
    let often = "[Timer]\nOnUnitInactiveSec=\nOnActiveSec=0s\nOnUnitInactiveSec=1s\nAccuracySec=100ms\n";
    machine.write("/etc/systemd/system/crosswatch-fetch.timer.d/often.conf", often);
    // As the user data of the templates does it.
    machine.run(&format!(
        "chmod 755 /usr/local/bin/aws
         tar -xzf /tmp/crosswatch.tar.gz -C / --keep-directory-symlink --no-overwrite-dir
         /usr/lib/crosswatch/prepare
         echo CONFIG_FROM=s3://bucket/crosswatch.toml >/etc/crosswatch/fetch.env
         systemctl daemon-reload
         systemctl enable {}
         systemctl enable --now crosswatch-fetch.timer",
        STAGES.join(" ")
    ));
    let all = || STAGES.map(|unit| running(&machine, unit));
    wait_until("all stages run", || !all().contains(&None));
    let failed = || machine.property("crosswatch-fetch.service", "Result");
    assert_eq!(failed(), "success");

    let before = all();
    machine.write("/srv/crosswatch.toml", &CONFIG.replace("2 of 2", "3 of 3"));
    wait_until("all stages run anew", || {
        all().iter().zip(before).all(|(now, before)| now.is_some() && *now != before)
    });
    let before = all();

    machine.write("/srv/crosswatch.toml", &CONFIG.replace("ping_ok", "ping_okay"));
    wait_until("a wrong one is refused", || failed() == "exit-code");
    assert!(machine.log().contains("did you mean 'ping_ok'"), "{}", machine.log());
    machine.write("/srv/crosswatch.toml", &CONFIG.replace("2 of 2", "3 of 3"));
    wait_until("the former one is there again", || failed() == "success");
    assert_eq!(all(), before, "nothing was started again for that");
    let mode = machine.run(&format!("stat --format '%a %U %G' {FILE}"));
    assert_eq!(mode, "640 root crosswatch");

    // Silences among the stages' own files, which outlast the instance: what is fetched is checked against them.
    let lasting = format!("silences = \"{SILENCES}\"\n{CONFIG}");
    machine.write("/srv/crosswatch.toml", &lasting);
    wait_until("the config with it is there", || machine.run(&format!("cat {FILE}")).contains(SILENCES));
    machine.run("crosswatch silence add --link loopback --for 1h --why work");
    wait_until("the silence is taken over", || machine.log().contains("the silences are in force"));
    assert_eq!(machine.run(&format!("stat --format '%a %U' {SILENCES}")), "644 crosswatch");
    let hidden = machine.output(&format!("cp {FILE} /tmp/own.toml; chmod 644 /tmp/own.toml; setpriv --reuid nobody --clear-groups crosswatch check --config /tmp/own.toml"));
    let said = String::from_utf8_lossy(&hidden.stderr).into_owned();
    assert!(!hidden.status.success() && said.contains("call it with sudo"), "{said}");
    machine.write("/srv/crosswatch.toml", &lasting.replace("loopback", "renamed"));
    wait_until("a config without the link is refused", || failed() == "exit-code");
    assert!(machine.log().contains(SILENCES), "{}", machine.log());
    machine.write("/srv/crosswatch.toml", &lasting.replace("2 of 2", "3 of 3"));
    wait_until("and one with it is not", || machine.run(&format!("cat {FILE}")).contains("3 of 3"));
    // Told to be started again, and done with it.
    let told = "test ! -e /etc/crosswatch/.crosswatch.toml.untold && systemctl list-jobs --no-legend 'crosswatch-[acp]*'";
    wait_until("all stages run with it", || {
        let jobs = machine.output(told);
        jobs.status.success() && jobs.stdout.is_empty() && !all().contains(&None)
    });
    let before = all();

    // In an outage nothing can be fetched, and no stage waits for that.
    let patient = "[Service]\nTimeoutStartSec=10min\n";
    machine.write("/etc/systemd/system/crosswatch-fetch.service.d/patient.conf", patient);
    machine.run("systemctl daemon-reload");
    machine.write("/usr/local/bin/aws", "#!/bin/sh\nexec sleep 1000\n");
    let fetching = || machine.property("crosswatch-fetch.service", "ActiveState") == "activating";
    wait_until("the next does not come to its end", fetching);
    machine.run(&format!("kill -KILL {}", before[0].unwrap()));
    wait_until("the alerter runs again", || {
        running(&machine, STAGES[0]).is_some_and(|process| Some(process) != before[0])
    });
    assert!(fetching());
}

#[test]
fn an_upgrade_starts_what_runs_again_and_a_purge_leaves_config_and_data_alone() {
    let test = "an_upgrade_starts_what_runs_again_and_a_purge_leaves_config_and_data_alone";
    let Some(machine) = installed(test) else { return };
    machine
        .run("systemctl enable --now crosswatch-collector@here crosswatch-publisher crosswatch-fetch.timer");
    let before = machine.main_process("crosswatch-publisher");
    install(&machine);
    assert_ne!(machine.main_process("crosswatch-publisher"), before, "the new version runs");
    assert_eq!(
        machine.property("crosswatch-alerter", "ActiveState"),
        "inactive",
        "what did not run still does not"
    );

    // A config that the new version finds wrong is no broken package.
    machine.write(FILE, &CONFIG.replace("ping_ok", "ping_okay"));
    install(&machine);
    assert_eq!(machine.run("dpkg-query --show --showformat '${db:Status-Abbrev}' crosswatch").trim(), "ii");
    assert_eq!(machine.property("crosswatch-publisher", "ActiveState"), "failed");
    machine.write(FILE, CONFIG);
    machine.run("systemctl start crosswatch-publisher");

    let mine = || {
        let find = "find / -xdev -name '*crosswatch*' ! -path '/proc/*' ! -path '/root/*' ! -path '/var/lib/dpkg/*' ! -path '/tmp/*' \
                    ! -path '/var/tmp/*' ! -path '/var/log/*'";
        machine.run(find).lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let data = machine.run("find /var/lib/crosswatch -name '*.db'");
    machine.run("dpkg --remove crosswatch");
    assert_eq!(
        machine.run("grep -lx crosswatch /proc/[0-9]*/comm || true"),
        "",
        "nothing of it runs any more"
    );
    assert!(
        mine().iter().any(|path| path.contains(".wants/")),
        "installed again, the same starts at boot: {:?}",
        mine()
    );
    machine.run("dpkg --purge crosswatch");
    let left = ["/etc/crosswatch", FILE, "/var/lib/crosswatch"].map(str::to_owned);
    assert_eq!(mine(), BTreeSet::from(left));
    assert_eq!(machine.run("find /var/lib/crosswatch -name '*.db'"), data);
    assert!(!data.is_empty() && Path::new(&machine.path(FILE)).exists());
    // And as it was left it goes on.
    install(&machine);
    assert!(!machine.run("systemctl list-unit-files --no-legend 'crosswatch*'").contains(" enabled "));
    machine.run("systemctl start crosswatch.service");
}

#[test]
fn a_reflector_answers_whom_it_is_told_to_as_nobody_and_with_nothing_but_its_port() {
    let test = "a_reflector_answers_whom_it_is_told_to_as_nobody_and_with_nothing_but_its_port";
    let Some(machine) = installed(test) else { return };
    let unit = "crosswatch-reflector";
    machine.run("systemctl start crosswatch-reflector");
    assert_eq!(machine.property(unit, "ActiveState"), "inactive", "before it is told whom to answer");
    let told = "REFLECTOR=--listen 127.0.0.1:862 --allow 127.0.0.0/8\n";
    machine.write("/etc/crosswatch/reflector.env", told);
    machine.run("systemctl enable --now crosswatch-reflector");
    machine.write(FILE, &CONFIG.replace("tcp = \"127.0.0.1:9\"", "udp = \"127.0.0.1:862\""));
    machine.run("systemctl start crosswatch.service");
    wait_until("its probe is answered", || state(&machine, "nobody") == "up");

    let process = machine.main_process(unit);
    let status = machine.run(&format!("cat /proc/{process}/status"));
    let bind_service = "0000000000000400";
    for line in [
        &*format!("CapEff:\t{bind_service}"),
        &format!("CapBnd:\t{bind_service}"),
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert!(!status.contains("Uid:\t0"), "{status}");
    let own = machine.run("id --user crosswatch");
    assert!(!status.contains(&format!("Uid:\t{own}")), "{status}");
    let reads =
        machine.output(&format!("nsenter --target {process} --mount ls {FILE} /var/lib/crosswatch/journal"));
    assert!(!reads.status.success(), "{reads:?}");

    machine.write("/etc/crosswatch/reflector.env", "REFLECTOR=--allow here\n");
    let _ = machine.output("systemctl restart crosswatch-reflector");
    wait_until("what cannot be read ends it", || machine.property(unit, "ActiveState") == "failed");
}
