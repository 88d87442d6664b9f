//! Logging in with keys that somebody else holds. Floor 3.
//!
//! **Invariant:** runs only after the host proved a known key. Signatures come from the agent, whose socket is the only thing in
//! this process's directory; one connection at a time asks which keys are its own. A connection that the host has closed is
//! not used for another try.

use ssh2::{Agent, ErrorCode, PublicKey, Session as Ssh2};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_blocking;

use crate::adapters::ssh::error::Refused;
use crate::adapters::ssh::frame::{Frame, Order, Report};
use crate::adapters::ssh::worker::connection::Connection;
use crate::adapters::ssh::worker::conversation::{After, Caller};

/// Whose turn it is to ask which keys are its own.
static ASKING: Mutex<()> = Mutex::const_new(());
/// How many logins wait at once for signatures that may take a person: each holds a thread.
static SLOW: Semaphore = Semaphore::const_new(32);
/// What the library says when the host sent no answer to a key, because it closed the connection.
const NO_ANSWER: &[&str] = &["Waiting for USERAUTH response", "Waiting for publickey USERAUTH response"];

/// Logs in, and tells the other side what came of it.
pub(super) async fn log_in(connection: &mut Connection, caller: &mut Caller, user: &str, slow: bool) -> After {
    let Some(asked) = ask(connection, caller).await else { return After::Gone };
    let report = match asked {
        Err(why) => Report::LoggedIn { accepted: false, refused: Vec::new(), agent: Some(why) },
        Ok((agent, keys)) => {
            let offered = offer(connection, agent, keys, user, slow);
            tokio::select! {
                biased;
                (accepted, refused) = offered => Report::LoggedIn { accepted, refused, agent: None },
                _ = caller.next() => return After::Gone,
            }
        }
    };
    if matches!(report, Report::LoggedIn { accepted: true, .. }) {
        // When to ask is decided in a conversation; the library must only not hold a question back (2 is the least it takes).
        connection.ssh.set_keepalive(true, 2);
        connection.inlet.trust();
    }
    caller.say(&report);
    After::More
}

/// Has the agent list the keys of this connection; nothing when the other side is gone.
async fn ask(connection: &Connection, caller: &mut Caller) -> Option<Result<(Agent, Vec<PublicKey>), String>> {
    let _turn = tokio::select! {
        biased;
        turn = ASKING.lock() => turn,
        _ = caller.next() => return None,
    };
    caller.say(&Report::Asking);
    let Ok(Some(Frame::Said(Order::Ask))) = caller.next().await else { return None };
    let listed = || -> Result<_, ssh2::Error> {
        let mut agent = connection.ssh.agent()?;
        // It answers at once: it is a task of the process that holds the keys.
        agent.connect()?;
        agent.list_identities()?;
        let keys = agent.identities()?;
        Ok((agent, keys))
    };
    Some(listed().map_err(|error| error.message().to_owned()))
}

/// Offers keys until the host takes one; returns whether it did, and what became of the others.
async fn offer(
    connection: &Connection,
    mut agent: Agent,
    keys: Vec<PublicKey>,
    user: &str,
    slow: bool,
) -> (bool, Vec<Refused>) {
    let ssh = &connection.ssh;
    let mut refused = Vec::new();
    for key in keys {
        let name = key.comment().to_owned();
        let answer = if slow {
            let (given_back, answer) = in_a_thread(ssh, agent, key, user.to_owned()).await;
            let Some(given_back) = given_back else { return (false, refused) };
            agent = given_back;
            answer
        } else {
            connection.readiness.retry(|| ssh.block_directions(), || agent.userauth(user, &key)).await
        };
        match answer {
            Ok(()) => return (true, refused),
            Err(error) if was_not_signed(&error) => refused.push(Refused::NotSigned { name }),
            Err(error) => {
                let message = error.message().to_owned();
                let over = NO_ANSWER.contains(&message.as_str());
                refused.push(Refused::ByHost { message });
                if over {
                    break;
                }
            }
        }
    }
    (false, refused)
}

/// Offers a key that a person may have to allow: the library waits for that in a call.
async fn in_a_thread(
    ssh: &Ssh2,
    agent: Agent,
    key: PublicKey,
    user: String,
) -> (Option<Agent>, Result<(), ssh2::Error>) {
    let turn = SLOW.acquire().await.ok();
    let ssh = ssh.clone();
    let asked = spawn_blocking(move || {
        // Given back when the agent has answered, however long nobody waits for it any more.
        let _turn = turn;
        ssh.set_blocking(true);
        let answer = agent.userauth(&user, &key);
        ssh.set_blocking(false);
        (agent, answer)
    });
    match asked.await {
        Ok((agent, answer)) => (Some(agent), answer),
        Err(_) => (None, Err(ssh2::Error::unknown())),
    }
}

/// Whether the library got no signature: that has no number of its own.
fn was_not_signed(error: &ssh2::Error) -> bool {
    const KEY_FILE: [i32; 2] = [-16, -48];
    matches!(error.code(), ErrorCode::Session(code) if KEY_FILE.contains(&code))
        || error.message() == "Callback returned error"
}

/// Asks what the host lets be tried now; nothing when it does not say.
pub(super) async fn methods_left(connection: &Connection, user: &str) -> Option<String> {
    let ssh = &connection.ssh;
    let ask = || ssh.auth_methods(user).map(str::to_owned);
    connection.readiness.retry(|| ssh.block_directions(), ask).await.ok()
}
