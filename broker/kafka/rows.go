package kafka

// coreRows are the APIs served besides consumer groups, with the versions that
// ApiVersions advertises: Apache Kafka 4.3's stable ranges.
func coreRows() []row {
	return []row{
		onStart(0, 13, (*Server).produce),
		on(4, 18, (*Server).fetch),
		on(1, 11, (*Server).listOffsets),
		on(0, 13, (*Server).metadata),
		on(0, 4, (*Server).apiVersions),
		on(2, 7, (*Server).createTopics),
		on(1, 6, (*Server).deleteTopics),
		on(0, 2, (*Server).deleteRecords),
		on(0, 5, (*Server).initProducerID),
		on(2, 4, (*Server).offsetForLeaderEpoch),
		on(1, 4, (*Server).describeConfigs),
		on(0, 2, (*Server).alterConfigs),
		on(1, 5, (*Server).describeLogDirs),
		on(0, 3, (*Server).createPartitions),
		on(0, 2, (*Server).electLeaders),
		on(0, 1, (*Server).incrementalAlterConfigs),
		on(0, 1, (*Server).alterPartitionReassignments),
		on(0, 0, (*Server).listPartitionReassignments),
		on(0, 2, (*Server).describeCluster),
		on(0, 1, (*Server).listConfigResources),
		on(0, 0, (*Server).describeTopicPartitions),
	}
}
