//! The control plane is real, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::PostParams;
use support::control_plane::{ControlPlane, Ready, client};

fn processes_with(text: &str) -> usize {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(text))
        .count()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !done() {
        assert!(Instant::now() < end, "not within 15 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_real_api_server_with_users_and_nothing_left_behind() {
    let began = Instant::now();
    let plane = ControlPlane::start().unwrap();
    eprintln!("ready after {:?}", began.elapsed());
    let dir = plane.dir().to_owned();
    let stranger = plane.kubeconfig_for("stranger", &[]).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let admin = plane.client().await.unwrap();
        let namespaces: Api<Namespace> = Api::all(admin.clone());
        let namespace = serde_json::from_value(serde_json::json!({"metadata": {"name": "a"}})).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(admin, "a");
        let map = serde_json::from_value(serde_json::json!({"metadata": {"name": "m"}})).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();

        let maps: Api<ConfigMap> = Api::namespaced(client(&stranger).await.unwrap(), "a");
        let refused = maps.get("m").await.unwrap_err();
        assert!(matches!(refused, kube::Error::Api(status) if status.code == 403));
    });
    let mark = dir.display().to_string();
    assert_eq!(processes_with(&mark), 2, "etcd and kube-apiserver");
    drop(plane);
    assert_eq!(processes_with(&mark), 0);
    assert!(!dir.exists());
}

#[test]
fn nothing_is_left_when_the_parent_is_killed() {
    // The shell's sleep stands for a test process: it holds the supervisor's standard input open.
    let mut parent = Command::new("sh")
        .args(["-c", "sleep 600 | exec \"$0\"", env!("CARGO_BIN_EXE_control-plane")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = parent.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let ready: Ready = serde_json::from_str(&line).unwrap();
    let mark = ready.dir.display().to_string();
    assert_eq!(processes_with(&mark), 2);
    let sleep = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let child = status.lines().any(|line| line == format!("PPid:\t{}", parent.id()));
        child && status.starts_with("Name:\tsleep")
    });
    let pid: i32 = sleep.unwrap().file_name().to_string_lossy().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("processes ended", || processes_with(&mark) == 0);
    until("directory removed", || !ready.dir.exists());
    parent.wait().unwrap();
}
