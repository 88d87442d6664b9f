//! Observers: told of what is recorded, after it is durable, in tasks of their own. Floor 4.
//!
//! They follow the audit, which has one numbered line for every act, and keep how far they have come in `notify/NAME`. So each is
//! told of every line at least once, over restarts too, and the loop only says how far the audit goes.
//!
//! **Invariant:** whatever an observer does, the loop does not wait for it: one that is slow is behind, one that fails is asked
//! again, one that breaks down is started again. None of them decides anything.

mod audit_head;
mod observer;
mod task_log;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::adapters::config::Settings;
use crate::adapters::spool::follow_audit::FollowAudit;
use crate::adapters::spool::layout::Layout;

use observer::{AGAIN_LAST, Observer, ObserverSettings, follow_on};

/// All observers. They end when this is dropped.
pub(super) struct Observers {
    durable: watch::Sender<u64>,
    settings: watch::Sender<ObserverSettings>,
    following: Vec<(AbortHandle, watch::Receiver<u64>)>,
}

impl Observers {
    /// Starts them; who was never told of anything begins behind line `newest`.
    pub(super) fn start(layout: &Layout, settings: &Settings, newest: u64) -> Observers {
        let (settings, configured) = watch::channel(ObserverSettings::of(settings));
        let (durable, news) = watch::channel(newest);
        let mut observers = Observers { durable, settings, following: Vec::new() };
        // Each observer is one line here, and a file of its own.
        let own = layout.clone();
        observers.add(layout, newest, &news, move || task_log::TaskLog::new(own.clone()));
        observers.add(layout, newest, &news, move || audit_head::AuditHead::new(configured.clone()));
        observers
    }

    fn add<O: Observer>(
        &mut self,
        layout: &Layout,
        newest: u64,
        news: &watch::Receiver<u64>,
        make: impl Fn() -> O + Send + 'static,
    ) {
        let (told, seen) = watch::channel(0);
        let (layout, news) = (layout.clone(), news.clone());
        let told = Arc::new(told);
        let task = tokio::spawn(async move {
            loop {
                let follow = FollowAudit::new(layout.clone(), O::NAME, newest);
                // It ends with this task.
                let mut following = JoinSet::new();
                following.spawn(follow_on(make(), follow, news.clone(), Arc::clone(&told)));
                let Some(Err(error)) = following.join_next().await else { return };
                tracing::error!(observer = O::NAME, "it broke down and is started again: {error}");
                sleep(AGAIN_LAST).await;
            }
        });
        self.following.push((task.abort_handle(), seen));
    }

    /// Says how far the audit goes that is durable.
    pub(super) fn set_durable(&self, seq: u64) {
        self.durable.send_replace(seq);
    }

    /// Takes other settings.
    pub(super) fn set(&self, settings: &Settings) {
        self.settings.send_replace(ObserverSettings::of(settings));
    }

    /// Waits until all of them were told of everything, at most so long: who was not is told at the next start.
    pub(super) async fn catch_up(&mut self, limit: Duration) {
        let last = *self.durable.borrow();
        let all = async {
            for (_, told) in &mut self.following {
                let _ = told.wait_for(|told| *told >= last).await;
            }
        };
        let _ = timeout(limit, all).await;
    }
}

impl Drop for Observers {
    fn drop(&mut self) {
        self.following.iter().for_each(|(task, _)| task.abort());
    }
}
