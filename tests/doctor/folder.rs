//! The folder of an embedded store.

use super::{ask, ask_in};
use crate::kit::server::Server;

#[tokio::test]
async fn a_new_folder_is_fine_and_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let told = ask_in(folder.path(), &[], &["--visitors", "1000"]).await;
    assert_eq!(told.code, Some(0));
    told.says("folder", "ok", &["data is not there yet"]);
    told.says("space", "ok", &["1000 visitors"]);
    told.says("keys", "warn", &["openssl rand -base64 32"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_folder_that_a_node_has_is_told_with_its_pid() {
    let server = Server::start(&[]).await;
    let told = ask(&[format!("store.path={}", server.store().display())]).await;
    assert_eq!(told.code, Some(0));
    told.says("holder", "warn", &[&format!("pid {}", server.id())]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let told = ask(&[format!("store.path={}", file.join("store").display())]).await;
    assert_eq!(told.code, Some(1));
    told.says("folder", "fail", &["cannot be written to"]);
}
