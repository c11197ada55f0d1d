//! The image and the shell scripts, as far as they can be judged without running them; `container.rs` runs the image.

use std::path::{Path, PathBuf};
use std::process::Command;

use crosswatch_tests::tools::{repository, require};
use serde_json::{Value, json};

fn clean(command: &mut Command) {
    let output = command.current_dir(repository()).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{command:?}: {}: {said}", output.status);
}

#[test]
fn hadolint_finds_nothing_in_the_dockerfile() {
    let Some(tools) = require("DEPLOY_TOOLS", "hadolint_finds_nothing_in_the_dockerfile") else { return };
    clean(Command::new(tools.join("bin/hadolint")).arg("deploy/docker/Dockerfile"));
}

#[test]
fn shellcheck_finds_nothing_in_the_scripts() {
    let Some(tools) = require("DEPLOY_TOOLS", "shellcheck_finds_nothing_in_the_scripts") else { return };
    let scripts = ["deploy/package", "deploy/aws/bootstrap", "tests/run", "tests/src/boot", ".ci/run"]
        .map(PathBuf::from);
    let of_systemd =
        ["prepare", "fetch-config", "use-volume", "debian/postinst", "debian/prerm", "debian/postrm"]
            .map(|name| PathBuf::from("deploy/systemd").join(name));
    clean(Command::new(tools.join("bin/shellcheck")).args(scripts).args(of_systemd));
}

/// The compose file.
pub(super) fn compose(tools: &Path) -> Value {
    let to_json = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let file = repository().join("deploy/docker/compose.yaml");
    let output = Command::new(tools.join("bin/python")).args(["-c", to_json]).arg(file).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_compose_starts_is_nobody_may_do_nothing_and_writes_into_its_volume_alone() {
    let test = "what_compose_starts_is_nobody_may_do_nothing_and_writes_into_its_volume_alone";
    let Some(tools) = require("DEPLOY_TOOLS", test) else { return };
    let compose = compose(&tools);
    let service = &compose["services"]["crosswatch"];
    assert_eq!(service["user"], "65532:65532");
    assert_eq!(service["read_only"], true);
    assert_eq!(service["cap_drop"], json!(["ALL"]));
    assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]));
    assert_eq!(service["privileged"], Value::Null);
    assert_eq!(service["ports"], Value::Null, "it serves loopback alone");
    let writable = service["volumes"].as_array().unwrap().iter().filter_map(Value::as_str);
    let writable: Vec<&str> = writable.filter(|volume| !volume.ends_with(":ro")).collect();
    assert_eq!(writable, ["data:/var/lib/crosswatch"]);
}
