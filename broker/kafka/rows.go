package kafka

// coreRows are the APIs served besides consumer groups, with the versions that
// ApiVersions advertises: Apache Kafka 4.3's stable ranges.
func coreRows() []row {
	return []row{
		on(0, 4, (*Server).apiVersions),
	}
}
