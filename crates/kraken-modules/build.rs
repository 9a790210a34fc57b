//! Compiles the protocol of modules in other processes, without protoc.

fn main() {
    #[cfg(feature = "grpc")]
    compile();
}

#[cfg(feature = "grpc")]
fn compile() {
    const PROTO: &str = "proto/kraken/module/v1/module.proto";
    println!("cargo::rerun-if-changed={PROTO}");
    let compiled = protox::compile([PROTO], ["proto"]);
    let written = compiled.map_err(|error| error.to_string()).and_then(|files| {
        tonic_prost_build::configure().compile_fds(files).map_err(|error| error.to_string())
    });
    if let Err(error) = written {
        println!("cargo::error=cannot compile {PROTO}: {error}");
    }
}
