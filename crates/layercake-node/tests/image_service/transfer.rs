//! Bringing images here, with servers that fail.

use std::sync::{Arc, Mutex};

use layercake_node::image::{ImageService, ImageState, ServiceError};

use crate::rig::{Rig, digest_of};
use crate::server::Fault;

#[tokio::test]
async fn a_broken_transfer_is_taken_up_where_it_broke() {
    let rig = Rig::new().await;
    let image = rig.image("one");
    let pieces = Arc::new(Mutex::new(Vec::new()));
    let mut config = rig.config();
    let seen = Arc::clone(&pieces);
    config.on_progress = Arc::new(move |progress| seen.lock().unwrap().push(progress.done));
    let service = ImageService::open(config).unwrap();
    rig.server.fail_next(&[Fault::BreakAfter(300_000), Fault::Busy, Fault::BreakAfter(300_000)]);
    service.reconcile(&[image.idle("web")]).await.unwrap();
    let ranges = rig.server.ranges();
    assert_eq!(ranges.len(), 4);
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1..3], [Some("bytes=300000-".to_owned()), Some("bytes=300000-".to_owned())]);
    assert_eq!(ranges[3], Some("bytes=600000-".to_owned()));
    let pieces = pieces.lock().unwrap().clone();
    assert!(pieces.is_sorted() && pieces.last() == Some(&image.size));
    service.reconcile(&[]).await.unwrap();
}

#[tokio::test]
async fn a_server_without_ranges_is_good_enough() {
    let rig = Rig::new().await;
    let service = rig.service();
    let image = rig.image("one");
    rig.server.fail_next(&[Fault::BreakAfter(300_000), Fault::IgnoreRange]);
    service.reconcile(&[image.idle("web")]).await.unwrap();
    service.reconcile(&[]).await.unwrap();
}

#[tokio::test]
async fn a_fetch_goes_on_after_a_restart_of_the_service() {
    let rig = Rig::new().await;
    let image = rig.image("one");
    rig.server.fail_next(&[Fault::BreakAfter(500_000)]);
    let service = rig.service();
    let fetching = {
        let service = service.clone();
        tokio::spawn(async move { service.prefetch(&[image.idle("web")]).await })
    };
    // Given up in the pause after the break.
    while rig.server.ranges().is_empty() {
        tokio::task::yield_now().await;
    }
    let partial = rig.state_root().join(format!("images/{}.partial", image.digest.to_hex()));
    while std::fs::metadata(&partial).map_or(0, |meta| meta.len()) < 500_000 {
        tokio::task::yield_now().await;
    }
    fetching.abort();
    assert!(fetching.await.unwrap_err().is_cancelled());
    drop(service);
    rig.service().prefetch(&[image.idle("web")]).await.unwrap();
    assert_eq!(rig.server.ranges().last().unwrap().as_deref(), Some("bytes=500000-"));
}

#[tokio::test]
async fn a_service_that_is_closed_gives_up_its_fetch_and_leaves_what_runs_to_the_next() {
    let rig = Rig::new().await;
    let service = rig.service();
    let old = [rig.image("one").idle("web")];
    service.reconcile(&old).await.unwrap();
    let before = service.observe();

    let image = rig.image("two");
    let new = [image.idle("web")];
    // The fetch is in its pause after the break, or before it, and would go on.
    rig.server.fail_next(&[Fault::BreakAfter(500_000)]);
    let fetching = {
        let (service, new) = (service.clone(), new.clone());
        tokio::spawn(async move { service.reconcile(&new).await })
    };
    while rig.server.ranges().len() < 2 {
        tokio::task::yield_now().await;
    }
    service.close().await;
    let given_up = fetching.await.unwrap().unwrap_err();
    assert!(matches!(given_up, ServiceError::Closed), "{given_up}");
    let refused = service.reconcile(&new).await.unwrap_err();
    assert!(matches!(refused, ServiceError::Closed), "{refused}");
    assert!(!rig.state_root().join("images").join(image.digest.to_hex()).exists());

    let next = rig.service();
    assert_eq!(next.observe(), before);
    assert_eq!(next.image_state(&old), ImageState::Active);
    next.reconcile(&new).await.unwrap();
    assert_eq!(next.image_state(&new), ImageState::Active);
    next.reconcile(&[]).await.unwrap();
}

#[tokio::test]
async fn a_corrupt_image_is_refused_and_the_old_one_keeps_running() {
    let rig = Rig::new().await;
    let service = rig.service();
    let old = [rig.image("one").idle("web")];
    service.reconcile(&old).await.unwrap();
    let pid = service.observe()[0].pid;

    let new = [rig.image("two").idle("web")];
    rig.server.fail_next(&[Fault::FlipByte(4711)]);
    let error = service.reconcile(&new).await.unwrap_err();
    assert!(error.reason().starts_with("image web: cannot fetch sha256:"), "{}", error.reason());
    assert!(error.reason().contains("the image is corrupt"), "{}", error.reason());
    assert_eq!(service.image_state(&new), ImageState::Error);
    let failed = service.last_failure().unwrap().images;
    assert_eq!(failed.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["web"]);
    assert_eq!((service.observe()[0].pid, service.image_state(&old)), (pid, ImageState::Active));
    let hex = new[0].digest.to_hex();
    for name in [hex.clone(), format!("{hex}.partial")] {
        assert!(!rig.state_root().join("images").join(name).exists());
    }
    // The next attempt finds a good copy.
    service.reconcile(&new).await.unwrap();
    assert_eq!(service.image_state(&new), ImageState::Active);
    service.reconcile(&[]).await.unwrap();
}

#[tokio::test]
async fn an_image_that_is_not_there_or_has_another_size_is_refused() {
    let rig = Rig::new().await;
    let service = rig.service();
    let mut spec = rig.image("one").idle("web");
    spec.size += 1;
    let error = service.reconcile(&[spec.clone()]).await.unwrap_err();
    assert!(error.reason().contains("bytes where"), "{}", error.reason());
    spec.digest = digest_of(b"never offered");
    let error = service.reconcile(&[spec]).await.unwrap_err();
    assert!(error.reason().contains("404"), "{}", error.reason());
    assert_eq!(rig.kernel_objects(), Vec::<String>::new());
}

#[tokio::test]
async fn an_image_that_does_not_fit_is_refused_before_it_is_asked_for() {
    let rig = Rig::new().await;
    let service = rig.service();
    let mut spec = rig.image("one").idle("web");
    spec.size = u64::MAX / 2;
    let error = service.reconcile(&[spec]).await.unwrap_err();
    assert!(error.reason().contains("are free on this node"), "{}", error.reason());
    assert_eq!(rig.server.ranges(), []);
}

#[tokio::test]
async fn a_server_that_never_delivers_is_given_up() {
    let rig = Rig::new().await;
    let service = rig.service();
    let want = [rig.image("one").idle("web")];
    rig.server.fail_next(&[Fault::Busy; 5]);
    let error = service.reconcile(&want).await.unwrap_err();
    assert!(error.reason().contains("5 attempts in a row brought nothing"), "{}", error.reason());
    assert!(error.reason().contains("503"), "{}", error.reason());
}
