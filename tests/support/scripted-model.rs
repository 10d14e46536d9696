//! The scripted model server as a program, for `scripts/demo`: `scripted-model SCRIPT.json WORKSPACE`. It prints its
//! address on the first line, and runs until it is killed. `$WORKSPACE` in the script is replaced with the second
//! argument.

#![expect(clippy::disallowed_macros, reason = "one line, for a script that reads it")]

#[path = "model.rs"]
mod model;

use model::{ScriptedModel, Step};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(script), Some(workspace)) = (args.next(), args.next()) else {
        eprintln!("usage: scripted-model SCRIPT.json WORKSPACE");
        std::process::exit(2);
    };
    let text = std::fs::read_to_string(&script).expect("the script can be read").replace("$WORKSPACE", &workspace);
    let steps: Vec<Step> = serde_json::from_str(&text).expect("the script is a list of steps");
    let model = ScriptedModel::start(steps).await;
    println!("http://{}", model.address);
    std::future::pending::<()>().await;
}
