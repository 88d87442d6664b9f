//! What is posted: tasks in three forms, pushes, alerts, and the wish to end a task.
//!
//! **Invariant:** a body is checked by the same readers as a dropped file, and the daemon checks it again. A token narrows
//! what policy allows, and never widens it.

use serde_json::json;

use crate::adapters::http::{Answer, Request};
use crate::base::ids::TaskId;
use crate::base::limits::TITLE_BYTES_MAX;
use crate::domain::hook::TAGS;
use crate::domain::problem::Problem;
use crate::domain::submission::Schedule;
use crate::domain::token::{Token, Verb};
use crate::domain::wire::{CodoRefusal, Unreadable, Wish, read_codo, read_wish};
use crate::engine::DropBox;
use crate::shells::clock::now;
use crate::shells::daemon::web::{Post, Web, error, forbidden, json_answer, later, locked, no_key, refused};

/// Why nothing was made of a post.
enum Failed {
    /// Answer this.
    Answer(Answer),
    /// Everything that is wrong.
    Problems(Vec<Problem>),
    /// Policy does not let this token do it.
    Policy(String),
}

impl Failed {
    fn answer(self) -> Answer {
        match self {
            Failed::Answer(answer) => answer,
            Failed::Problems(problems) => refused(400, &problems),
            Failed::Policy(why) => forbidden(&why),
        }
    }
}

impl Web {
    /// CODO: gives a key for one post.
    pub(super) fn one_time_key(&self, request: &Request) -> Answer {
        let token = match self.entitled(request, Verb::Submit) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        match locked(&self.keys).give(token.number, now()) {
            Ok(key) => {
                let cookie = format!("csrf_key={key}; Path=/; HttpOnly; SameSite=Strict; Max-Age=1800");
                let answer = json_answer(200, &json!({"code": 0, "msg": "获取csrf_key成功", "csrf_key": key}));
                Answer { headers: vec![("set-cookie", cookie)], ..answer }
            }
            Err(why) => error(500, &format!("no random numbers: {why}")),
        }
    }

    /// CODO: takes a task.
    pub(super) async fn accept(&self, request: &Request) -> Answer {
        let token = match self.entitled(request, Verb::Submit) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        // CODO wants a key here whatever way the token comes; one that came by cookie was checked with it.
        let free = request.sdk_method || request.bearer.is_some() || request.cookie("auth_key").is_some();
        if !free && !self.take_key(request, token.number, now()) {
            return no_key();
        }
        let serving = self.serving();
        let body = match read_codo(&request.body, &serving.library) {
            Ok(body) => body,
            Err(CodoRefusal { code, message, problems }) => {
                return match u16::try_from(code) {
                    Ok(status @ 400..) => refused(status, &problems),
                    _ => json_answer(200, &json!({"code": code, "msg": message})),
                };
            }
        };
        match self.take(&token, body.text, None).await {
            Ok(None) => error(500, "the daemon took it and made no task of it"),
            Ok(Some(id)) => {
                let mut said = json!({"code": 0, "msg": format!("Task creation success, ID：{id}"), "list_id": id});
                if !body.ignored.is_empty() {
                    said["ignored"] = json!(body.ignored);
                }
                json_answer(200, &said)
            }
            Err(failed) => failed.answer(),
        }
    }

    /// open-devops, and our own form: takes a task, which begins at once if it may.
    pub(super) async fn submit(&self, request: &Request) -> Answer {
        let token = match self.entitled(request, Verb::Submit) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        match self.take(&token, request.body.clone(), Some(Schedule::Ready)).await {
            Ok(Some(id)) => json_answer(200, &json!(id)),
            Ok(None) => json_answer(200, &json!({"code": 0, "msg": "no rule is for this push"})),
            Err(failed) => failed.answer(),
        }
    }

    /// Gives a task file, or what happened somewhere, to the loop, which asks rules, scope and policy; nothing where no rule
    /// is for it. Without `into` the file says where it wishes to go.
    async fn take(&self, token: &Token, text: Vec<u8>, into: Option<Schedule>) -> Result<Option<TaskId>, Failed> {
        let read = read_wish(&text, &self.serving().library.zone);
        let wish = read.map_err(|Unreadable { problems, .. }| Failed::Problems(problems))?;
        let asked = match &wish {
            Wish::Task(submission) => into.or(submission.schedule),
            // The rules say where it goes.
            Wish::Push(_) | Wish::Alert(_) => None,
        };
        let drop_box = if asked == Some(Schedule::Ready) { DropBox::Ready } else { DropBox::New };
        let answer = self.post(drop_box, token, text).await.map_err(Failed::Answer)?;
        answer.map_err(|problems| {
            if problems.iter().any(|problem| problem.limited) {
                return Failed::Answer(later(refused(429, &problems)));
            }
            match problems.iter().find(|problem| problem.denied) {
                // Who may not do it at all need not know what else is wrong.
                Some(problem) => Failed::Policy(problem.found.clone()),
                None => Failed::Problems(problems),
            }
        })
    }

    /// open-devops: ends a task.
    pub(super) async fn kill(&self, request: &Request) -> Answer {
        let token = match self.entitled(request, Verb::Cancel) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let of_body = match &body["task_id"] {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let Some(word) = request.argument("task_id").map(str::to_owned).or(of_body) else {
            return error(400, "no task_id: POST /api/v1/kill-task?task_id=291");
        };
        let Ok(id) = word.parse::<u64>() else { return error(400, "task_id is not a number") };
        if self.run_of(TaskId(id), &token).await.is_none() {
            return error(404, &format!("there is no task {id}"));
        }
        let order =
            json!({"order": "cancel", "task": word, "reason": format!("kill-task with {}", token.actor().user)});
        match self.post(DropBox::Orders, &token, order.to_string().into_bytes()).await {
            Ok(Ok(_)) => json_answer(200, &json!({"code": 0, "msg": "success"})),
            Ok(Err(problems)) => refused(409, &problems),
            Err(answer) => answer,
        }
    }

    /// Takes how far a running script says that it is.
    pub(super) async fn progress(&self, request: &Request) -> Answer {
        let secret = request.bearer.as_deref().or(request.argument("auth_key")).or(request.argument("secret"));
        let opened = secret.and_then(|secret| self.callback.as_ref()?.open(secret));
        let Some(attempt) = opened else { return self.stranger(request, now()) };
        let text = match serde_json::from_slice::<serde_json::Value>(&request.body) {
            Ok(serde_json::Value::Object(said)) => {
                let part =
                    |name: &str| said.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
                format!("{} {}", part("Status"), part("Result")).trim().to_owned()
            }
            Ok(serde_json::Value::String(text)) => text,
            _ => return error(400, "wanted {\"Status\": \"…\", \"Result\": \"…\"}, or a text"),
        };
        let text = text[..text.floor_char_boundary(TITLE_BYTES_MAX)].to_owned();
        let (reply, taken) = tokio::sync::oneshot::channel();
        let sent = self.posts.send(Post::Said(attempt, text, reply)).await.is_ok();
        match taken.await {
            Ok(true) => json_answer(200, &json!({"code": 0, "msg": "success"})),
            Ok(false) => error(409, "this attempt does not run any more, or has said something less than a second ago"),
            Err(_) if sent => error(503, "the daemon is stopping"),
            Err(_) => error(503, "the daemon is stopping; try again"),
        }
    }

    /// CODO: a tag was pushed, says its global hook.
    pub(super) async fn git_hook(&self, request: &Request) -> Answer {
        let token = match self.entitled(request, Verb::Submit) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        let said = |code: i32, message: &str| json_answer(200, &json!({"code": code, "msg": message}));
        let Some([url, path, tag]) = texts(&request.body, ["git_url", "relative_path", "tag_name"]) else {
            return said(-1, "Key parameters cannot be empty");
        };
        let repository = path.strip_suffix(".git").unwrap_or(&path).to_owned();
        if !self.serving().library.hooks.know(&repository) {
            return said(0, "No related items were found");
        }
        let (ssh, http) = urls(&url, &repository);
        let push = json!({
            "git_push": 1, "repository": repository, "ref": format!("{TAGS}{tag}"), "hook": "http",
            "git_ssh_url": ssh, "git_http_url": http,
        });
        self.tell(&token, &push, said(2, "No hook matched")).await
    }

    /// CODO: a trigger fired, says the monitor.
    pub(super) async fn zabbix_hook(&self, request: &Request) -> Answer {
        let token = match self.entitled(request, Verb::Submit) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        let said = |code: i32, message: &str| json_answer(200, &json!({"code": code, "msg": message}));
        let Some([message]) = texts(&request.body, ["messages"]) else {
            return said(-1, "Key parameters cannot be empty");
        };
        let parts: Vec<&str> = message.split("___").map(str::trim).collect();
        let [host, address, trigger, status, severity] = parts[..] else {
            return said(-1, "messages is not HOST___IP___TRIGGER___STATUS___SEVERITY");
        };
        let alert = json!({
            "alert": 1, "host": host, "address": address, "trigger": trigger, "status": status, "severity": severity,
        });
        self.tell(&token, &alert, said(0, "No hooks, ignore")).await
    }

    /// Tells the loop what happened; `ignored` is the answer when no rule is for it.
    async fn tell(&self, token: &Token, what: &serde_json::Value, ignored: Answer) -> Answer {
        match self.take(token, what.to_string().into_bytes(), None).await {
            Ok(None) => ignored,
            Ok(Some(id)) => {
                json_answer(200, &json!({"code": 0, "msg": format!("Task creation success, ID：{id}"), "list_id": id}))
            }
            Err(failed) => failed.answer(),
        }
    }
}

/// Takes texts that must be there and not empty.
fn texts<const N: usize>(body: &[u8], names: [&str; N]) -> Option<[String; N]> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let found = names.map(|name| body[name].as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned));
    found.iter().all(Option::is_some).then(|| found.map(Option::unwrap_or_default))
}

/// Returns where a repository of a server can be fetched from.
fn urls(server: &str, repository: &str) -> (String, String) {
    let server = server.trim_end_matches('/');
    let host = server.split_once("://").map_or(server, |(_, host)| host);
    let name = host.split(['/', ':']).next().unwrap_or(host);
    (format!("git@{name}:{repository}.git"), format!("{server}/{repository}.git"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_have_two_addresses() {
        let (ssh, http) = urls("http://gitlab.example.com:8080/", "ops/web");
        assert_eq!(
            (ssh.as_str(), http.as_str()),
            ("git@gitlab.example.com:ops/web.git", "http://gitlab.example.com:8080/ops/web.git")
        );
    }

    #[test]
    fn texts_must_all_be_there() {
        assert_eq!(texts(b"{\"a\": \" x \", \"b\": \"y\"}", ["a", "b"]), Some(["x".to_owned(), "y".to_owned()]));
        for body in ["{\"a\": \"x\"}", "{\"a\": \"x\", \"b\": \"\"}", "{\"a\": \"x\", \"b\": 1}", "[]", "no"] {
            assert_eq!(texts(body.as_bytes(), ["a", "b"]), None, "{body}");
        }
    }
}
