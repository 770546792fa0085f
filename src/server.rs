//! Assembles the two transports into one HTTP server, and takes it down gently.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use diesel_async::RunQueryDsl;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use crate::access::setup;
use crate::app::App;
use crate::config::CorsOrigins;
use crate::error::{Code, Error, Result};
use crate::secret::Secret;
use crate::worker::{AnyWorker, Runner};
use crate::{graphql, rest, telemetry};

/// What was sent must be taken within this time, also by a peer that is there and does not read.
#[cfg(target_os = "linux")]
const UNTAKEN_MILLIS: u32 = 30_000;

/// A server that accepts requests.
pub struct Server {
    app: App,
    address: SocketAddr,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
    metrics: Option<JoinHandle<()>>,
    runner: Runner,
    bus: JoinSet<()>,
    setup_token: Option<Secret>,
}

impl Server {
    /// Begins to serve on a listener and to run workers in the background.
    pub async fn start(app: App, listener: TcpListener, workers: Vec<AnyWorker>, extra: Router<App>) -> Result<Server> {
        let setup_token = setup::prepare(&app).await?;
        let address = listener.local_addr().map_err(Error::internal)?;
        let stopping = CancellationToken::new();
        let router = router(&app, extra);
        let serving = spawn_serving(listener, router, stopping.clone());
        let metrics = match app.config().metrics_listen {
            Some(address) => {
                let listener = TcpListener::bind(address).await.map_err(Error::internal)?;
                let router = Router::new().route("/metrics", get(metrics));
                Some(spawn_serving(listener, router, stopping.clone()))
            }
            None => None,
        };
        let runner = Runner::start(&app, workers);
        let bus = carry_hints(&app);
        Ok(Server { app, address, stopping, serving, metrics, runner, bus, setup_token })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token with which this instance can be set up. `None` when it is set up.
    pub fn setup_token(&self) -> Option<&Secret> {
        self.setup_token.as_ref()
    }

    /// Ends at once: connections break, nothing is finished. What a killed process leaves behind, for tests.
    pub fn kill(self) {
        self.serving.abort();
        if let Some(metrics) = self.metrics {
            metrics.abort();
        }
        self.app.hub().sockets().abandon();
        self.app.pool().close();
    }

    /// Stops accepting, closes the sockets, lets requests and workers end, each within the drain time.
    pub async fn stop(mut self) {
        let drain = self.app.config().drain;
        self.stopping.cancel();
        graphql::drain(&self.app, drain).await;
        let requests = async {
            if self.serving.await.is_err() {
                tracing::error!("the server task failed");
            }
            if let Some(metrics) = self.metrics {
                metrics.abort();
            }
        };
        if tokio::time::timeout(drain, requests).await.is_err() {
            tracing::warn!("some requests did not end within the drain time");
        }
        self.runner.stop(drain.max(Duration::from_secs(1))).await;
        if let Err(error) = crate::release(&self.app).await {
            tracing::warn!(%error, "leases were not given back; the next server waits until they end");
        }
        self.bus.shutdown().await;
        self.app.pool().close();
    }
}

#[expect(clippy::disallowed_methods, reason = "the handle is awaited in Server::stop")]
fn spawn_serving(listener: TcpListener, router: Router, stopping: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let served = axum::serve(listener.tap_io(tune), service).with_graceful_shutdown(stopping.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "serving failed");
        }
    })
}

/// Carries hints to and from the servers that share the database, as long as this one runs.
fn carry_hints(app: &App) -> JoinSet<()> {
    let app = app.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // Servers that share a database share the master key; others may share the carrier.
        let subject = hex::encode(&app.vault().derive("hints between servers")[..8]);
        app.bus().run(&app.config().carrier, &subject).await;
    });
    tasks
}

/// Small answers must not wait for one another, and a peer that takes nothing for a while is gone.
fn tune(stream: &mut TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay could not be set");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&*stream, UNTAKEN_MILLIS) {
        tracing::debug!(%error, "the limit for what is not taken could not be set");
    }
}

/// Every route, with what holds for all of them.
fn router(app: &App, extra: Router<App>) -> Router {
    let mut routes = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .merge(rest::routes())
        .merge(graphql::routes(app))
        .merge(extra);
    if app.config().metrics_listen.is_none() {
        routes = routes.route("/metrics", get(metrics));
    }
    let request_id = HeaderName::from_static("x-request-id");
    routes
        .fallback(|| async { Error::not_found("path") })
        .method_not_allowed_fallback(|| async { Error::new(Code::MethodNotAllowed, "this path has no such method") })
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            Error::internal("a handler panicked").into_response()
        }))
        .layer(cors(&app.config().cors_origins))
        .layer(middleware::from_fn(observe))
        .layer(PropagateRequestIdLayer::new(request_id.clone()))
        .layer(SetRequestIdLayer::new(request_id, MakeRequestUuid))
        .with_state(app.clone())
}

/// Logs and counts each request.
async fn observe(request: Request, next: Next) -> Response {
    let started = tokio::time::Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    metrics::histogram!("cardwire_http_request_seconds", "status" => status.to_string())
        .record(started.elapsed().as_secs_f64());
    tracing::debug!(http.method = %method, http.path = path, http.status = status, client.address = ?peer, "request");
    response
}

fn cors(origins: &CorsOrigins) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(
            [
                "authorization",
                "content-type",
                "accept",
                "x-cardwire-api-key",
                "x-cardwire-platform",
                "x-cardwire-sdk-version",
            ]
            .into_iter()
            .chain([
                "x-cardwire-timezone",
                "x-cardwire-device",
                "x-cardwire-app-version",
                "x-cardwire-csrf",
                "x-request-id",
            ])
            .map(HeaderName::from_static)
            .collect::<Vec<_>>(),
        )
        .expose_headers([HeaderName::from_static("x-request-id"), header::RETRY_AFTER])
        .max_age(Duration::from_secs(600));
    match origins {
        CorsOrigins::Any => layer.allow_origin(AllowOrigin::any()),
        CorsOrigins::These(list) => {
            layer.allow_origin(list.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect::<Vec<_>>())
        }
    }
}

async fn ready(State(app): State<App>) -> Response {
    let answer = async {
        let conn = app.read().await?;
        diesel::sql_query("SELECT 1").execute(&mut &*conn).await?;
        Ok::<_, Error>(())
    };
    match answer.await {
        Ok(()) => "ready".into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer").into_response(),
    }
}

async fn metrics() -> String {
    telemetry::metrics().render()
}
