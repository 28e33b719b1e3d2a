package kafka

import "time"

// Metrics takes this front's measurements. Its methods are called from any
// goroutine and must not block.
type Metrics interface {
	// Request counts one answered request; api is one of Kafka's names.
	Request(api string, took time.Duration, bytesIn, bytesOut int)
	Connections(open int)
	Refused()       // a connection over the limit
	ProtocolError() // a connection closed for what its peer sent, or did not
	// Software counts a client that introduced itself; name is bounded.
	Software(name string)
}

type noMetrics struct{}

func (noMetrics) Request(string, time.Duration, int, int) {}
func (noMetrics) Connections(int)                         {}
func (noMetrics) Refused()                                {}
func (noMetrics) ProtocolError()                          {}
func (noMetrics) Software(string)                         {}

// software bounds what clients call themselves to a label's worth of names.
func software(name string) string {
	switch name {
	case "apache-kafka-java", "librdkafka", "confluent-kafka-python", "kgo", "franz-go", "kafka-go",
		"sarama", "kafka-python", "aiokafka", "kafkajs", "node-rdkafka", "confluent-kafka-go",
		"confluent-kafka-dotnet", "rdkafka-ruby", "kcat", "rpk", "millrace":
		return name
	case "":
		return "unknown"
	}
	return "other"
}
