//! What hyper calls for each request of a connection: keeps the connection's phase, and answers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Request;
use hyper::body::{Body, Incoming};

use super::conn::Listener;
use super::reply::Response;
use super::route::Answer;
use super::wire::{Phase, Wire};

pub(super) struct Service {
    pub listener: Arc<Listener>,
    pub wire: Arc<Wire>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let has_body = !request.body().is_end_stream();
        self.wire.take_request(has_body);
        match (self.listener.answers)(request) {
            Answer::Now(response) => {
                if has_body {
                    self.wire.ask_linger();
                }
                self.wire.enter(Phase::Answer);
                Answering::Now(Some(response))
            }
            Answer::Later(future) => Answering::Later(future, Arc::clone(&self.wire)),
        }
    }
}

pub(super) enum Answering {
    Now(Option<Response>),
    Later(Pin<Box<dyn Future<Output = Response> + Send>>, Arc<Wire>),
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            // hyper polls an answer that it has no more.
            Self::Now(response) => response
                .take()
                .map_or(Poll::Pending, |r| Poll::Ready(Ok(r))),
            Self::Later(future, wire) => future.as_mut().poll(cx).map(|response| {
                if response.headers().contains_key(hyper::header::CONNECTION) {
                    wire.ask_linger();
                }
                wire.enter(Phase::Answer);
                Ok(response)
            }),
        }
    }
}
