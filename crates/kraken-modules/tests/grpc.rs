//! Modules over gRPC that work, crash, hang, flood and lie, beside one that works.
//!
//! The module is this very program: started with the name of an ignored test, it serves.
#![cfg(feature = "grpc")]
// What a module prints is a point here.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod house;

use house::House;
use kraken::ModuleState;
use kraken_modules::proto::module_server::{Module, ModuleServer};
use kraken_modules::proto::value::Kind;
use kraken_modules::proto::{Discovery, HelloReply, HelloRequest, Node, Order, Taken, Value};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// The door's file. The vice reaches the module by its environment, which a shell adds to.
fn door(vice: &str) -> String {
    let program = std::env::current_exe().unwrap();
    format!(
        "module: door
variables: {{ door: {{ values: [UNKNOWN, OPEN, SHUT] }} }}
facts: {{ knocks: {{ type: number, min: 0, max: 9 }} }}
serve: {{ shell: 'VICE={vice} exec {} --exact serve_a_door --ignored --nocapture' }}
mutations:
  shut:
    moves: {{ door: [OPEN, SHUT] }}
    timeout: 1s
    retry: {{ pause: 100ms, longest: 200ms, attempts: forever }}
",
        program.display()
    )
}

/// A door in another process.
struct Door {
    vice: String,
    /// Who is told what the door does.
    told: std::sync::Mutex<Option<mpsc::Sender<Result<Discovery, Status>>>>,
}

fn found(node: &str, path: &str, kind: Kind) -> Result<Discovery, Status> {
    let values = [(path.to_owned(), Value { kind: Some(kind) })].into();
    Ok(Discovery { node: node.to_owned(), values })
}

fn text(text: &str) -> Kind {
    Kind::Text(text.to_owned())
}

#[tonic::async_trait]
impl Module for Door {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        assert_eq!((request.get_ref().version, &*request.get_ref().module), (1, "door"));
        let takes = if self.vice == "useless" { vec![] } else { vec!["door.shut".to_owned()] };
        Ok(Response::new(HelloReply { mutations: takes }))
    }

    type WatchStream = ReceiverStream<Result<Discovery, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<Node>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, receiver) = mpsc::channel(4);
        *self.told.lock().unwrap() = Some(sender.clone());
        let (vice, mut nodes) = (self.vice.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(node)) = nodes.message().await {
                if vice == "crash" {
                    eprintln!("the hinges broke");
                    std::process::exit(3);
                }
                // What is not known to be shut is open.
                if node.name == "a" && !node.gone && !node.dsc.contains_key("door") {
                    let _ = sender.send(found("a", "door", text("OPEN"))).await;
                    misbehave(&vice, &sender).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn take(&self, request: Request<Order>) -> Result<Response<Taken>, Status> {
        let order = request.into_inner();
        assert_eq!(order.mutation, "door.shut");
        match &*self.vice {
            "hang" => std::future::pending().await,
            "refuse" => return Err(Status::failed_precondition("the door is walled up")),
            "stop" => {
                let me = std::process::id().to_string();
                std::process::Command::new("kill").args(["-STOP", &me]).status().unwrap();
            }
            _ => {}
        }
        let sender = self.told.lock().unwrap().clone().unwrap();
        let shut = found(&order.node.unwrap().name, "door", text("SHUT"));
        sender.send(shut).await.map_err(|_| Status::unavailable("nobody listens"))?;
        Ok(Response::new(Taken {}))
    }
}

async fn misbehave(vice: &str, sender: &mpsc::Sender<Result<Discovery, Status>>) {
    match vice {
        "flood" => {
            for knocks in 0.. {
                if sender.send(found("a", "knocks", Kind::Number(knocks % 2))).await.is_err() {
                    return;
                }
            }
        }
        "lie" => {
            for lie in [
                found("a", "lamp", text("ON")),
                found("a", "nothing", text("of the kind")),
                found("a", "door", text("AJAR")),
                found("nobody", "door", text("SHUT")),
                found("No Node", "door", text("SHUT")),
            ] {
                sender.send(lie).await.unwrap();
            }
        }
        _ => {}
    }
}

#[tokio::test]
#[ignore = "the module that the others talk to: started by them"]
async fn serve_a_door() {
    let Some(socket) = std::env::var_os("KRAKEN_SOCKET") else { return };
    let vice = std::env::var("VICE").unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    let door = Door { vice, told: std::sync::Mutex::default() };
    let server = tonic::transport::Server::builder().add_service(ModuleServer::new(door));
    server.serve_with_incoming(UnixListenerStream::new(listener)).await.unwrap();
}

fn error(house: &House) -> String {
    house.status("door").last_error.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_over_grpc_tells_what_it_finds_and_takes_its_steps() {
    let house = House::open(&door("none")).await;
    house.until("a is not shut", |house| house.is("a", "door", "SHUT")).await;
    let status = house.status("door");
    assert_eq!((&*status.kind, status.state), ("grpc", ModuleState::Running));
    assert_eq!((status.restarts, status.refused, status.last_error), (0, 0, None));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_crashes_is_started_again_and_again() {
    let house = House::open(&door("crash")).await;
    house.until("it is not started again", |house| house.status("door").restarts >= 2).await;
    let said = |house: &House| error(house).contains("exit status: 3");
    house.until("nobody says why", said).await;
    assert!(error(&house).contains("the hinges broke"), "{}", error(&house));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_hangs_or_is_refused_costs_its_attempt() {
    let house = House::open(&door("hang")).await;
    house.until_explained("not discovered in time").await;
    assert_eq!(house.status("door").restarts, 0);
    house.close().await;
    let house = House::open(&door("refuse")).await;
    house.until_explained("the door is walled up").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_does_not_answer_at_all_is_killed_and_started_again() {
    let house = House::open(&door("stop")).await;
    house.until("it is not started again", |house| house.status("door").restarts >= 1).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_floods_waits_and_nobody_else_does() {
    let house = House::open(&door("flood")).await;
    house.until("it does not flood", |house| house.status("door").discoveries > 3000).await;
    let (before, asked) = (house.status("door").discoveries, std::time::Instant::now());
    house.until("it stands still", |house| house.status("door").discoveries > before + 6000).await;
    // Two thousand a second, and at the edges of the time two thousand each that were there already.
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(1), "6000 in {took:?}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_lies_is_not_believed() {
    let house = House::open(&door("lie")).await;
    house.until("lies were taken", |house| house.status("door").refused == 5).await;
    house.until("a is not shut", |house| house.is("a", "door", "SHUT")).await;
    assert!(!house.is("a", "lamp", "ON"));
    assert_eq!(house.status("door").restarts, 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_does_not_take_what_its_file_declares_is_told_so() {
    let house = House::open(&door("useless")).await;
    let said = |house: &House| error(house).contains("it does not take door.shut");
    house.until("nobody says so", said).await;
    house.until_explained("is down").await;
    house.close().await;
}
