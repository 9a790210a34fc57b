#![allow(clippy::unwrap_used)]

use tokio::net::UnixListener;

use super::*;

const SOON: Duration = Duration::from_millis(300);
const AMPLE: Duration = Duration::from_secs(20);
const GREETING: &[u8] = b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";

/// A peer that runs `script` on the first connection and then holds it open.
async fn against<F, Fut>(script: F) -> (tempfile::TempDir, PathBuf, tokio::task::JoinHandle<()>)
where
    F: FnOnce(UnixStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        script(stream).await;
    });
    (dir, path, peer)
}

async fn read_line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap()
}

#[tokio::test]
async fn a_conversation_matches_answers_by_number_and_keeps_events() {
    let (_dir, path, peer) = against(async |mut stream: UnixStream| {
        stream.write_all(GREETING).await.unwrap();
        assert_eq!(read_line(&mut stream).await, "{\"execute\":\"qmp_capabilities\",\"id\":1}\n");
        stream.write_all(b"{\"return\": {}, \"id\": 1}\n").await.unwrap();
        assert_eq!(read_line(&mut stream).await, "{\"execute\":\"query-status\",\"id\":2}\n");
        stream
            .write_all(
                b"{\"return\": 9, \"id\": 1}\n{\"event\": \"STOP\"}\n{\"return\": 5, \"id\": 2}\n",
            )
            .await
            .unwrap();
        assert_eq!(read_line(&mut stream).await, "{\"execute\":\"quit\",\"id\":3}\n");
        stream
            .write_all(
                b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}, \"id\": 3}\n",
            )
            .await
            .unwrap();
    })
    .await;
    let mut connection = Connection::open(&path, AMPLE).await.unwrap();
    assert_eq!(connection.execute("query-status", AMPLE).await.unwrap(), 5);
    assert_eq!(connection.next_event().await.unwrap(), "STOP");
    let refused = connection.execute("quit", AMPLE).await.unwrap_err();
    assert_eq!(refused.to_string(), "quit was refused: not now (GenericError)");
    peer.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_says_nothing_costs_the_deadline_and_no_more() {
    let (_dir, path, peer) =
        against(async |_stream: UnixStream| std::future::pending().await).await;
    let error = Connection::open(&path, SOON).await.unwrap_err();
    assert!(matches!(error, QmpError::Deadline { .. }), "{error}");
    peer.abort();
}

#[tokio::test]
async fn a_peer_that_drips_bytes_does_not_move_the_deadline() {
    let (_dir, path, peer) = against(async |mut stream: UnixStream| {
        while stream.write_all(b"{").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let error = Connection::open(&path, SOON).await.unwrap_err();
    assert!(matches!(error, QmpError::Deadline { .. }), "{error}");
    peer.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_floods_is_cut_off() {
    let (_dir, path, peer) = against(async |mut stream: UnixStream| {
        stream.write_all(GREETING).await.unwrap();
        while stream.write_all(b"{\"event\": \"STOP\"}\n").await.is_ok() {}
    })
    .await;
    let error = Connection::open(&path, AMPLE).await.unwrap_err();
    assert!(matches!(error, QmpError::Flood { .. }), "{error}");
    peer.await.unwrap();
}

#[tokio::test]
async fn a_line_without_end_is_cut_off() {
    let (_dir, path, peer) = against(
        async |mut stream: UnixStream| {
            while stream.write_all(&[b'x'; 1024]).await.is_ok() {}
        },
    )
    .await;
    let error = Connection::open(&path, AMPLE).await.unwrap_err();
    assert!(matches!(error, QmpError::Line(_)), "{error}");
    peer.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_hangs_up_or_speaks_something_else_is_told_apart() {
    let (_dir, path, peer) = against(async |stream: UnixStream| drop(stream)).await;
    let error = Connection::open(&path, AMPLE).await.unwrap_err();
    assert!(matches!(error, QmpError::Closed { .. } | QmpError::Transport(_)), "{error}");
    peer.await.unwrap();

    let (_dir, path, peer) = against(async |mut stream: UnixStream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
    })
    .await;
    let error = Connection::open(&path, AMPLE).await.unwrap_err();
    assert!(matches!(error, QmpError::Message(_)), "{error}");
    peer.await.unwrap();

    let nobody = tempfile::tempdir().unwrap();
    let error = Connection::open(&nobody.path().join("qmp.sock"), AMPLE).await.unwrap_err();
    assert!(matches!(error, QmpError::Connect { .. }), "{error}");
}
