//! The routes: method, path, description and answer of each, in one table. Floor 4.
//!
//! **Invariant:** what is answered, what `/openapi.json` says of it, and which methods a path knows come from the same rows.

use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::{Web, error, json_answer, wrong_method};
use crate::adapters::http::{Answer, Answers, Request};

type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// One route.
struct Route {
    /// Its method; one that is read with GET may be asked with HEAD, too.
    method: &'static str,
    /// Its path, as it is described; `{id}` stands for one part. A slash at the end may be left out or added.
    path: &'static str,
    /// What `/openapi.json` says of it: an operation of `OpenAPI` 3.0, but for the errors that all have, and with the codes of its
    /// others in `errors`.
    operation: &'static str,
    answer: for<'a> fn(&'a Web, &'a Request) -> Answering<'a>,
}

/// The errors that every route may answer with: it is no request, came too slowly, or is too long.
const ERRORS_OF_ALL: [u16; 3] = [400, 408, 413];

#[rustfmt::skip]
const ROUTES: &[Route] = &[
    Route { method: "GET", path: "/healthz", operation: include_str!("operations/health.json"), answer: |web, _| Box::pin(std::future::ready(web.health())) },
    Route { method: "GET", path: "/metrics", operation: include_str!("operations/metrics.json"), answer: |web, _| Box::pin(std::future::ready(web.metrics())) },
    Route { method: "GET", path: "/openapi.json", operation: include_str!("operations/openapi.json"), answer: |_, _| Box::pin(std::future::ready(description())) },
    Route { method: "GET", path: "/api/task/v2/task/accept/", operation: include_str!("operations/codo_key.json"), answer: |web, request| Box::pin(std::future::ready(web.one_time_key(request))) },
    Route { method: "POST", path: "/api/task/v2/task/accept/", operation: include_str!("operations/codo_accept.json"), answer: |web, request| Box::pin(web.accept(request)) },
    Route { method: "POST", path: "/api/task/other/v1/git/hooks/", operation: include_str!("operations/codo_git_hook.json"), answer: |web, request| Box::pin(web.git_hook(request)) },
    Route { method: "POST", path: "/api/tools/v1/zabbix/hooks/", operation: include_str!("operations/codo_zabbix_hook.json"), answer: |web, request| Box::pin(web.zabbix_hook(request)) },
    Route { method: "POST", path: "/api/accounts/login/", operation: include_str!("operations/codo_login.json"), answer: |_, _| Box::pin(std::future::ready(no_login())) },
    Route { method: "GET", path: "/api/v1/task", operation: include_str!("operations/list.json"), answer: |web, request| Box::pin(web.list(request)) },
    Route { method: "POST", path: "/api/v1/task", operation: include_str!("operations/submit.json"), answer: |web, request| Box::pin(web.submit(request)) },
    Route { method: "POST", path: "/api/v1/kill-task", operation: include_str!("operations/kill.json"), answer: |web, request| Box::pin(web.kill(request)) },
    Route { method: "GET", path: "/api/v1/task/{id}", operation: include_str!("operations/task.json"), answer: |web, request| Box::pin(web.result(request, part(request))) },
    Route { method: "GET", path: "/api/v1/task/{id}/state", operation: include_str!("operations/task_state.json"), answer: |web, request| Box::pin(web.result(request, part(request))) },
    Route { method: "GET", path: "/api/v1/task/{id}/result", operation: include_str!("operations/task_result.json"), answer: |web, request| Box::pin(web.result(request, part(request))) },
    Route { method: "GET", path: "/api/v1/task/{id}/stdout", operation: include_str!("operations/task_stdout.json"), answer: |web, request| Box::pin(web.result(request, part(request))) },
    Route { method: "GET", path: "/api/v1/task/{id}/stderr", operation: include_str!("operations/task_stderr.json"), answer: |web, request| Box::pin(web.result(request, part(request))) },
    Route { method: "POST", path: "/api/v1/progress", operation: include_str!("operations/progress.json"), answer: |web, request| Box::pin(web.progress(request)) },
];

/// What is said of everything together.
const FRAME: &str = include_str!("openapi.json");

/// The description of everything here, for programs.
static DESCRIPTION: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut frame: Value = serde_json::from_str(FRAME).expect("the frame is JSON");
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = route.described();
    }
    frame["paths"] = Value::Object(paths);
    serde_json::to_vec(&frame).expect("JSON can be written")
});

impl Route {
    fn described(&self) -> Value {
        let mut operation: Value = serde_json::from_str(self.operation).expect("an operation is JSON");
        let own = operation.as_object_mut().and_then(|fields| fields.remove("errors"));
        let own = own.as_ref().and_then(Value::as_array).into_iter().flatten().map(ToString::to_string);
        for code in own.chain(ERRORS_OF_ALL.map(|code| code.to_string())) {
            let schema = json!({"$ref": "#/components/schemas/Error"});
            let why = json!({"description": "why not", "content": {"application/json": {"schema": schema}}});
            operation["responses"][code] = why;
        }
        operation
    }

    fn has_path(&self, path: &str) -> bool {
        let mut asked = path.split('/');
        let same = self.path.trim_end_matches('/').split('/').all(|part| match asked.next() {
            Some(word) if part.starts_with('{') => !word.is_empty(),
            Some(word) => word == part,
            None => false,
        });
        same && asked.next().is_none()
    }

    fn has_method(&self, method: &str) -> bool {
        self.method == method || self.method == "GET" && method == "HEAD"
    }
}

/// Answers a request by the row that it means.
async fn answer(web: &Web, request: &Request) -> Answer {
    let path = request.path.trim_end_matches('/');
    let rows: Vec<&Route> = ROUTES.iter().filter(|route| route.has_path(path)).collect();
    match rows.iter().find(|route| route.has_method(&request.method)) {
        Some(route) => (route.answer)(web, request).await,
        // Whatever is asked there, it is not there any more.
        None if rows.iter().any(|route| route.path == LOGIN) => no_login(),
        None if !rows.is_empty() => {
            let methods: Vec<&str> = rows.iter().map(|route| route.method).collect();
            wrong_method(&methods.join(", "))
        }
        None if request.path.starts_with(TASK) && ["GET", "HEAD"].contains(&request.method.as_str()) => {
            web.result(request, part(request)).await
        }
        None if request.path.starts_with(TASK) => wrong_method("GET"),
        None => error(404, "找不到相关路径-404: nothing is here; see /openapi.json"),
    }
}

impl Answers for Web {
    async fn answer(&self, request: Request) -> Answer {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        match self.misdirected(&request) {
            Some(answer) => answer,
            None => answer(self, &request).await,
        }
    }

    fn refuse(&self, status: u16, why: &str) -> Answer {
        error(status, why)
    }
}

/// What stands before a task's number.
const TASK: &str = "/api/v1/task/";
const LOGIN: &str = "/api/accounts/login/";

/// Returns what of a task is asked for: its number, and perhaps a part of it.
fn part(request: &Request) -> &str {
    request.path.trim_end_matches('/').strip_prefix(TASK).unwrap_or_default()
}

fn no_login() -> Answer {
    error(410, "there is no login here: use a token, made with: spoolgate token create")
}

fn description() -> Answer {
    Answer { body: DESCRIPTION.clone(), ..json_answer(200, &Value::Null) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_once_and_found_by_its_path() {
        let description: Value = serde_json::from_slice(&DESCRIPTION).unwrap();
        let paths = description["paths"].as_object().unwrap();
        assert_eq!(paths.values().map(|path| path.as_object().unwrap().len()).sum::<usize>(), ROUTES.len());
        for route in ROUTES {
            let operation = &paths[route.path][route.method.to_ascii_lowercase()];
            assert!(operation["summary"].is_string() && operation["responses"]["400"].is_object(), "{}", route.path);
            assert!(operation.get("errors").is_none(), "{}", route.path);
            let path = route.path.trim_end_matches('/').replace("{id}", "7");
            let found = ROUTES.iter().find(|other| other.has_path(&path) && other.has_method(route.method)).unwrap();
            assert_eq!((found.path, found.method), (route.path, route.method));
        }
        let known = |path: &str| ROUTES.iter().any(|route| route.has_path(path));
        assert!(known("/healthz") && known("/api/v1/task/12/state"));
        assert!(!known("/healthz/x") && !known("/api/v1/task//state") && !known("/api") && !known(""));
    }
}
