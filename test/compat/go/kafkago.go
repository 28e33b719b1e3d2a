package main

import (
	"context"
	"fmt"
	"os"

	kafka "github.com/segmentio/kafka-go"
)

// tryKafkaGo produces in every codec and reads back as a group of one; kafka-go
// speaks old versions: Produce 7 at most, Fetch 10, JoinGroup 2.
func tryKafkaGo(ctx context.Context, brokers []string) error {
	topic := fmt.Sprintf("kafka-go-%d", os.Getpid())
	client := &kafka.Client{Addr: kafka.TCP(brokers...)}
	created, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 3, ReplicationFactor: 1}}})
	if err != nil || created.Errors[topic] != nil {
		return fmt.Errorf("create topic: %v, %v", err, created)
	}
	codecs := []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd}
	for _, codec := range codecs {
		if err := kafkaGoProduce(ctx, brokers, topic, codec); err != nil {
			return fmt.Errorf("produce in %v: %w", codec, err)
		}
	}
	group := "g-" + topic
	if err := kafkaGoConsume(ctx, brokers, topic, group, records*len(codecs)); err != nil {
		return err
	}
	offsets, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {0, 1, 2}}})
	if err != nil {
		return err
	}
	var sum int64
	for _, p := range offsets.Topics[topic] {
		sum += p.CommittedOffset
	}
	if sum != int64(records*len(codecs)) {
		return fmt.Errorf("committed %d, want %d", sum, records*len(codecs))
	}
	deleted, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil || deleted.Errors[topic] != nil {
		return fmt.Errorf("delete topic: %v, %v", err, deleted)
	}
	return nil
}

func kafkaGoProduce(ctx context.Context, brokers []string, topic string, codec kafka.Compression) error {
	w := &kafka.Writer{Addr: kafka.TCP(brokers...), Topic: topic, RequiredAcks: kafka.RequireAll, Compression: codec, BatchSize: 50, Balancer: &kafka.Hash{}}
	messages := make([]kafka.Message, records)
	for i := range messages {
		messages[i] = kafka.Message{Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "%v-%d", codec, i),
			Headers: []kafka.Header{{Key: "h", Value: []byte("x")}}}
	}
	if err := w.WriteMessages(ctx, messages...); err != nil {
		return err
	}
	return w.Close()
}

func kafkaGoConsume(ctx context.Context, brokers []string, topic, group string, want int) error {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: brokers, Topic: topic, GroupID: group, StartOffset: kafka.FirstOffset,
		MaxBytes: 1 << 20, IsolationLevel: kafka.ReadCommitted})
	seen := map[string]bool{}
	for len(seen) < want {
		m, err := r.ReadMessage(ctx) // commits, too
		if err != nil {
			return fmt.Errorf("after %d records: %w", len(seen), err)
		}
		at := fmt.Sprint(m.Partition, "/", m.Offset)
		if seen[at] {
			return fmt.Errorf("record %s came twice", at)
		}
		seen[at] = true
	}
	return r.Close()
}
