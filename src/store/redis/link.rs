//! The connections that all calls share: to a cluster, or to one server.
//!
//! Nothing here retries for long; the callers of the store decide on that. Blocking reads have connections of their own, see [`super::wait`].

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    Pipeline, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, Value,
};
use tokio::sync::Mutex;

use super::classify::classified;
use super::clustered::Clustered;
use super::settings::{Address, Settings};
use crate::store::StoreError;

/// The shared connections.
pub(super) enum Link {
    Cluster(Clustered),
    Single(Box<Single>),
}

impl Link {
    /// Connects to the cluster that the servers of `settings` belong to.
    pub async fn cluster(settings: &Settings) -> RedisResult<Self> {
        Clustered::connect(settings).await.map(Self::Cluster)
    }

    /// Connects to the first server that can be reached.
    pub async fn single(settings: &Settings) -> RedisResult<Self> {
        let (connection, _) = connect_any(settings).await?;
        Ok(Self::Single(Box::new(Single {
            settings: settings.clone(),
            state: Mutex::new((0, Some(connection))),
        })))
    }

    /// Runs one command.
    pub async fn query(&self, during: &'static str, cmd: &Cmd) -> Result<Value, StoreError> {
        self.raw(cmd)
            .await
            .map_err(|error| classified(during, error))
    }

    /// Runs one command; its error as Redis gave it.
    pub async fn raw(&self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Cluster(cluster) => {
                let current = cluster.current();
                cluster.judge(&current, cmd.query_async(&mut current.get()).await)
            }
            Self::Single(single) => {
                let (generation, mut connection) = single.get().await?;
                let answer = cmd.query_async(&mut connection).await;
                single.judge(generation, answer).await
            }
        }
    }

    /// Runs commands whose keys all have one tag, in one round trip; not as one step.
    pub async fn pipe(
        &self,
        during: &'static str,
        pipe: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let answer = match self {
            Self::Cluster(cluster) => {
                let current = cluster.current();
                cluster.judge(&current, pipe.query_async(&mut current.get()).await)
            }
            Self::Single(single) => match single.get().await {
                Ok((generation, mut connection)) => {
                    let answer = pipe.query_async(&mut connection).await;
                    single.judge(generation, answer).await
                }
                Err(error) => Err(error),
            },
        };
        answer.map_err(|error| classified(during, error))
    }

    /// Every server that may be asked.
    pub fn servers(&self, settings: &Settings) -> Vec<Address> {
        match self {
            Self::Cluster(cluster) => cluster.servers(),
            Self::Single(_) => settings.addresses.clone(),
        }
    }
}

/// One server. A connection that broke is replaced by the next call.
pub(super) struct Single {
    settings: Settings,
    /// Held while connecting only: one call connects, the others wait for it, no longer than a
    /// connection may take. The number tells connections apart.
    state: Mutex<(u64, Option<MultiplexedConnection>)>,
}

impl Single {
    async fn get(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.1 {
            return Ok((state.0, connection.clone()));
        }
        let (connection, _) = connect_any(&self.settings).await?;
        *state = (state.0 + 1, Some(connection.clone()));
        Ok((state.0, connection))
    }

    /// Drops the connection if it broke.
    async fn judge<T>(&self, generation: u64, answer: RedisResult<T>) -> RedisResult<T> {
        if let Err(error) = &answer
            && (error.is_unrecoverable_error() || error.is_io_error())
        {
            let mut state = self.state.lock().await;
            if state.0 == generation {
                state.1 = None;
            }
        }
        answer
    }
}

/// A connection of its own to the first server that can be reached, and which one that is.
pub(super) async fn connect_any(
    settings: &Settings,
) -> RedisResult<(MultiplexedConnection, Address)> {
    let mut failed = None;
    for address in &settings.addresses {
        match connect(settings, address, settings.response_timeout).await {
            Ok(connection) => return Ok((connection, address.clone())),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| {
        RedisError::from((redis::ErrorKind::InvalidClientConfig, "no server is named"))
    }))
}

/// A connection of its own to one server, whose answers may take so long.
pub(super) async fn connect(
    settings: &Settings,
    address: &Address,
    response_timeout: std::time::Duration,
) -> RedisResult<MultiplexedConnection> {
    let info = info(settings, address)?;
    let client = match certificates(settings) {
        Some(ca) => Client::build_with_tls(info, ca)?,
        None => Client::open(info)?,
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(settings.connection_timeout))
        .set_response_timeout(Some(response_timeout));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

pub(super) fn info(settings: &Settings, address: &Address) -> RedisResult<ConnectionInfo> {
    let (host, port) = (address.host.clone(), address.port);
    let address = if settings.tls {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let mut login = RedisConnectionInfo::default();
    if let Some(user) = &settings.user {
        login = login.set_username(user);
    }
    if let Some(password) = &settings.password {
        login = login.set_password(password);
    }
    let info = address.into_connection_info()?;
    Ok(info.set_redis_settings(login).set_tcp_settings(tcp()))
}

/// Small writes must not wait for company: batches are made before they come here.
pub(super) fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

pub(super) fn certificates(settings: &Settings) -> Option<TlsCertificates> {
    settings.tls.then(|| TlsCertificates {
        client_tls: None,
        root_cert: settings.ca.clone(),
    })
}
