//! A Kafka cluster in this process.

use std::sync::mpsc::{Receiver, Sender, channel};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::LabError;
use crate::kafka::clients::failed;

/// What the library calls the cluster that it simulates.
type Simulated = MockCluster<'static, DefaultProducerContext>;
type Job = Box<dyn FnOnce(&Simulated) + Send>;

/// The cluster that librdkafka simulates, with as many brokers as wanted. It keeps 5 MiB of each partition, answers every search by time
/// with the end of the log, and can make no topic for a client. Dropping it ends it.
#[derive(Debug)]
pub struct MockKafka {
    name: String,
    bootstrap: String,
    jobs: Sender<Job>,
}

impl MockKafka {
    /// Starts `brokers` brokers on free ports of the loopback.
    ///
    /// # Errors
    /// The library could not start them.
    pub(crate) fn start(name: &str, brokers: i32) -> Result<Self, LabError> {
        let (told, ready) = channel();
        let (jobs, queue) = channel();
        // The handle may not leave the thread that made it.
        let spawned = std::thread::Builder::new()
            .name(format!("mock-kafka-{name}"))
            .spawn(move || run(brokers, &told, &queue));
        spawned.map_err(|error| failed(name, "start its thread", error))?;
        let bootstrap = ready
            .recv()
            .map_err(|error| failed(name, "start", error))?
            .map_err(|error| failed(name, "start", error))?;
        Ok(Self {
            name: name.to_owned(),
            bootstrap,
            jobs,
        })
    }

    /// `host:port` of its brokers.
    pub fn bootstrap(&self) -> Vec<String> {
        self.bootstrap.split(',').map(str::to_owned).collect()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Does something with the simulated cluster: faults, leaders, delays. Blocks for the time of it.
    ///
    /// # Errors
    /// What the library refused.
    pub fn with<T: Send + 'static>(
        &self,
        tried: &str,
        work: impl FnOnce(&Simulated) -> rdkafka::error::KafkaResult<T> + Send + 'static,
    ) -> Result<T, LabError> {
        let (told, done) = channel();
        let job: Job = Box::new(move |cluster| {
            // Whoever asked may have gone.
            let _unheard = told.send(work(cluster));
        });
        let gone = |_| failed(&self.name, tried, "it has ended");
        self.jobs
            .send(job)
            .map_err(|_| failed(&self.name, tried, "it has ended"))?;
        done.recv()
            .map_err(gone)?
            .map_err(|error| failed(&self.name, tried, error))
    }

    /// Makes a topic. It cannot be removed again.
    ///
    /// # Errors
    /// What the library refused.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), LabError> {
        let name = topic.to_owned();
        self.with(&format!("create topic {topic}"), move |cluster| {
            cluster.create_topic(&name, partitions, 1)
        })
    }

    /// Gives a partition to a broker, from 1. To none it cannot be given: the simulation crashes when it is then read.
    ///
    /// # Errors
    /// What the library refused.
    pub fn lead(&self, topic: &str, partition: i32, broker: i32) -> Result<(), LabError> {
        let name = topic.to_owned();
        self.with(
            &format!("give {topic}-{partition} to broker {broker}"),
            move |cluster| cluster.partition_leader(&name, partition, Some(broker)),
        )
    }

    /// Cuts the clients of a broker off and lets none in; -1: of all. What it leads has no leader that answers.
    ///
    /// # Errors
    /// What the library refused.
    pub fn broker_down(&self, broker: i32) -> Result<(), LabError> {
        self.with(&format!("stop broker {broker}"), move |cluster| {
            cluster.broker_down(broker)
        })
    }

    /// Has a broker answer so much later, from its next answer on; -1: all.
    ///
    /// # Errors
    /// What the library refused.
    pub fn slow_down(&self, broker: i32, delay: std::time::Duration) -> Result<(), LabError> {
        self.with(&format!("slow broker {broker} down"), move |cluster| {
            cluster.broker_round_trip_time(broker, delay)
        })
    }

    /// Lets clients in again.
    ///
    /// # Errors
    /// What the library refused.
    pub fn broker_up(&self, broker: i32) -> Result<(), LabError> {
        self.with(&format!("start broker {broker}"), move |cluster| {
            cluster.broker_up(broker)
        })
    }
}

fn run(brokers: i32, told: &Sender<Result<String, rdkafka::error::KafkaError>>, queue: &Receiver<Job>) {
    let cluster = match MockCluster::new(brokers) {
        Ok(cluster) => cluster,
        Err(error) => {
            let _unheard = told.send(Err(error));
            return;
        }
    };
    if told.send(Ok(cluster.bootstrap_servers())).is_ok() {
        for job in queue {
            job(&cluster);
        }
    }
}
