//! Which servers there are, and what each holds: as the cluster says, or a server by itself.

use redis::aio::MultiplexedConnection;

use super::classify::classified;
use super::settings::Address;
use crate::store::StoreError;

const DURING: &str = "read the cluster's nodes";

/// The servers, by master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Whether it is a cluster.
    pub clustered: bool,
    /// The masters that hold anything; one when it is no cluster.
    pub masters: Vec<Master>,
}

/// A master with its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// Where it is.
    pub address: Address,
    /// Ranges of slots, both ends included; none when it is no cluster.
    pub slots: Vec<(u16, u16)>,
    /// Where its replicas are, as far as they are well.
    pub replicas: Vec<Address>,
}

impl Layout {
    /// All servers, each after its master.
    pub fn servers(&self) -> impl Iterator<Item = &Address> {
        self.masters
            .iter()
            .flat_map(|master| std::iter::once(&master.address).chain(&master.replicas))
    }

    /// The master that holds a slot.
    pub fn holder(&self, slot: u16) -> Option<&Master> {
        let holds = |master: &&Master| {
            let mut ranges = master.slots.iter();
            !self.clustered || ranges.any(|(first, last)| (*first..=*last).contains(&slot))
        };
        self.masters.iter().find(holds)
    }
}

/// Asks a server that was connected to at `address` and says `info` of itself.
pub(super) async fn layout(
    connection: &mut MultiplexedConnection,
    address: &Address,
    info: &str,
    tls: bool,
) -> Result<Layout, StoreError> {
    if !is_clustered(info) {
        return Ok(Layout {
            clustered: false,
            masters: vec![alone(address, info)],
        });
    }
    let mut nodes = redis::cmd("CLUSTER");
    nodes.arg("NODES");
    let nodes: String = nodes
        .query_async(connection)
        .await
        .map_err(|error| classified(DURING, error))?;
    let unexpected =
        || StoreError::never(DURING, "an answer of another form than this build reads");
    Ok(Layout {
        clustered: true,
        masters: masters(&nodes, &address.host, tls).ok_or_else(unexpected)?,
    })
}

/// Whether a server belongs to a cluster.
pub(super) fn is_clustered(info: &str) -> bool {
    field(info, "cluster_enabled") == Some("1")
}

/// A line of what `INFO` says.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    info.lines().find_map(value).map(str::trim)
}

/// A master by itself with the replicas it knows; or the master of the replica that was asked.
fn alone(address: &Address, info: &str) -> Master {
    if field(info, "role") == Some("slave") {
        let master = field(info, "master_host").zip(field(info, "master_port"));
        let master = master.and_then(|(host, port)| {
            Some(Address {
                host: host.to_owned(),
                port: port.parse().ok()?,
            })
        });
        return Master {
            address: master.unwrap_or_else(|| address.clone()),
            slots: Vec::new(),
            replicas: vec![address.clone()],
        };
    }
    let replica = |line: &str| {
        let (_, parts) = line.strip_prefix("slave")?.split_once(':')?;
        let part = |name: &str| {
            let mut parts = parts.trim().split(',');
            parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Address {
            host: part("ip")?.to_owned(),
            port: part("port")?.parse().ok()?,
        })
    };
    Master {
        address: address.clone(),
        slots: Vec::new(),
        replicas: info.lines().filter_map(replica).collect(),
    }
}

/// What `CLUSTER NODES` says: a line a server, its id, address, flags, master's id, four things that
/// do not matter here, and its slots. (`CLUSTER SLOTS` passes over replicas that have had nothing to
/// copy yet.) A server is called by its name with TLS, since certificates hold names; one without an
/// address is known by where it was asked.
fn masters(nodes: &str, asked_at: &str, tls: bool) -> Option<Vec<Master>> {
    let mut masters: Vec<(&str, Master)> = Vec::new();
    let mut replicas = Vec::new();
    for line in nodes.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [id, address, flags, master, _, _, _, _, slots @ ..] = words.as_slice() else {
            return None;
        };
        let flagged = |flag: &str| flags.split(',').any(|known| known == flag);
        if flagged("handshake") || flagged("noaddr") {
            continue;
        }
        let address = parse(address, asked_at, tls)?;
        if flagged("slave") {
            if !flagged("fail") {
                replicas.push((*master, address));
            }
            continue;
        }
        let slots: Vec<_> = slots.iter().filter_map(|slots| range(slots)).collect();
        if !slots.is_empty() {
            let replicas = Vec::new();
            masters.push((
                id,
                Master {
                    address,
                    slots,
                    replicas,
                },
            ));
        }
    }
    for (master, replica) in replicas {
        if let Some((_, master)) = masters.iter_mut().find(|(id, _)| *id == master) {
            master.replicas.push(replica);
        }
    }
    masters.sort_by_key(|(_, master)| master.slots.iter().min().copied());
    Some(masters.into_iter().map(|(_, master)| master).collect())
}

/// `host:port@bus` or `host:port@bus,name` (and what later versions add).
fn parse(address: &str, asked_at: &str, tls: bool) -> Option<Address> {
    let mut parts = address.split(',');
    let (host, port) = parts.next()?.split('@').next()?.rsplit_once(':')?;
    let name = parts
        .next()
        .filter(|name| !name.is_empty() && (tls || host.is_empty()));
    let host = name.unwrap_or(host);
    let host = if host.is_empty() { asked_at } else { host };
    Some(Address {
        host: host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned(),
        port: port.parse().ok()?,
    })
}

/// `first-last`, or one slot; nothing for one that is being moved (`[slot->-id]`).
fn range(slots: &str) -> Option<(u16, u16)> {
    let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address {
            host: "10.0.0.1".to_owned(),
            port,
        }
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let info = "# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n";
        assert_eq!(field(info, "maxmemory_policy"), Some("noeviction"));
        assert_eq!(field(info, "maxmemory"), Some("0"));
        assert_eq!(field(info, "max"), None);
    }

    #[test]
    fn a_server_by_itself_names_its_replicas_and_a_replica_its_master() {
        let info = "role:master\r\nconnected_slaves:1\r\n\
                    slave0:ip=10.0.0.1,port=7,state=online,offset=1,lag=0\r\n";
        let master = alone(&address(6), info);
        assert_eq!(
            (master.address, master.replicas),
            (address(6), vec![address(7)])
        );
        let info = "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6\r\n";
        let master = alone(&address(7), info);
        assert_eq!(
            (master.address, master.replicas),
            (address(6), vec![address(7)])
        );
    }

    #[test]
    fn the_cluster_names_masters_slots_and_replicas() {
        let nodes = "a 10.0.0.1:1@11,m1 myself,master - 0 0 2 connected 100-200 300 [93-<-b]\n\
                     b 10.0.0.1:2@12 master - 0 0 1 connected 0-99\n\
                     c :4@14 slave a 0 0 2 connected\n\
                     d 10.0.0.1:5@15 slave,fail b 0 0 1 disconnected\n\
                     e :0@0 master,noaddr - 0 0 0 disconnected\n\
                     f 10.0.0.1:6@16 master - 0 0 3 connected\n";
        let layout = Layout {
            clustered: true,
            masters: masters(nodes, "10.0.0.1", false).unwrap(),
        };
        assert_eq!(layout.masters.len(), 2);
        assert_eq!(layout.masters[0].address, address(2));
        assert_eq!(layout.masters[1].slots, [(100, 200), (300, 300)]);
        assert_eq!(layout.masters[1].replicas, [address(4)]);
        assert_eq!(layout.servers().count(), 3);
        assert_eq!(layout.holder(300).unwrap().address, address(1));
        assert_eq!(layout.holder(250), None);
        let by_name = masters(nodes, "10.0.0.1", true).unwrap();
        assert_eq!(by_name[1].address.host, "m1");
        assert_eq!(masters("what?", "", false), None);
    }
}
