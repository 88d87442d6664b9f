//! Doing what the other end of a wire wants of one connection. Floor 3.
//!
//! **Invariant:** one thing after the other; the connection ends when nobody is at the other end any more, whatever is under way.

use tokio::sync::mpsc;

use crate::adapters::ssh::frame::{Frame, Order, Report};
use crate::adapters::ssh::worker::connection::{Connection, explain, greet};
use crate::adapters::ssh::worker::conversation::{After, Caller};
use crate::adapters::ssh::worker::socket::Socket;
use crate::adapters::ssh::worker::tunnel::FarEnd;
use crate::adapters::ssh::worker::{login, tunnel};
use crate::adapters::ssh::workers::Destination;

/// Serves one connection to its end.
pub(super) async fn serve(
    mut caller: Caller,
    socket: Socket,
    to: Destination,
    explains: bool,
    wished: mpsc::Receiver<FarEnd>,
) {
    if explains {
        let Some(why) = until_gone(&mut caller, explain(&to, socket)).await else { return };
        caller.say(&Report::Explained(why));
        caller.flush().await;
        return;
    }
    let connection = match until_gone(&mut caller, greet(&to, socket)).await {
        None => return,
        Some(Err(error)) => {
            caller.say(&Report::Failed(error));
            caller.flush().await;
            return;
        }
        Some(Ok(connection)) => connection,
    };
    caller.say(&Report::Greeted { key_exchange: connection.key_exchange() });
    obey(connection, caller, wished).await;
}

async fn obey(mut connection: Connection, mut caller: Caller, wished: mpsc::Receiver<FarEnd>) {
    loop {
        let order = match caller.next().await {
            Ok(Some(Frame::Said(order))) => order,
            // What was on its way to a command that has ended.
            Ok(Some(Frame::Bytes(_) | Frame::ErrorBytes(_))) => continue,
            Ok(None) | Err(_) => return,
        };
        let after = match order {
            Order::LogIn { user, slow } => login::log_in(&mut connection, &mut caller, &user, slow).await,
            Order::MethodsLeft { user } => {
                let left = until_gone(&mut caller, login::methods_left(&connection, &user)).await;
                match left {
                    Some(methods) => {
                        caller.say(&Report::MethodsLeft(methods));
                        After::More
                    }
                    None => After::Gone,
                }
            }
            Order::Start { command, stays_open } => connection.run(&mut caller, Some(&command), stays_open).await,
            Order::Resume => connection.run(&mut caller, None, true).await,
            Order::Part => {
                connection.part().await;
                After::More
            }
            // It crossed the end of what it meant.
            Order::Enough | Order::InputEnds => After::More,
            Order::Leave => {
                caller.say(&Report::Left);
                After::More
            }
            Order::Lead => return tunnel::lead(connection, caller, wished).await,
            Order::Close => return connection.close().await,
            Order::Ask => After::Gone,
        };
        if after == After::Gone {
            return;
        }
    }
}

/// Waits for `work` as long as somebody is at the other end, who has nothing to say meanwhile.
async fn until_gone<T>(caller: &mut Caller, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        _ = caller.next() => None,
    }
}
