package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/IBM/sarama"
)

// trySarama goes the whole way in the oldest protocol that Kafka 4 speaks with
// clients and in sarama's newest: topics, idempotent produce in every codec, a
// group with a static member, offsets, deletion.
func trySarama(ctx context.Context, brokers []string) error {
	for _, version := range []sarama.KafkaVersion{sarama.V2_1_0_0, sarama.MaxVersion} {
		if err := saramaRoundTrip(ctx, brokers, version); err != nil {
			return fmt.Errorf("sarama as %s: %w", version, err)
		}
		fmt.Println("ok", version)
	}
	return nil
}

func saramaConfig(version sarama.KafkaVersion) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = version
	c.Producer.RequiredAcks, c.Producer.Idempotent = sarama.WaitForAll, true
	c.Net.MaxOpenRequests = 1 // what an idempotent producer of sarama's asks for
	c.Producer.Return.Successes = true
	c.Consumer.Offsets.Initial, c.Consumer.IsolationLevel = sarama.OffsetOldest, sarama.ReadCommitted
	return c
}

func saramaRoundTrip(ctx context.Context, brokers []string, version sarama.KafkaVersion) error {
	topic := fmt.Sprintf("sarama-%s-%d", version, os.Getpid())
	admin, err := sarama.NewClusterAdmin(brokers, saramaConfig(version))
	if err != nil {
		return err
	}
	defer admin.Close()
	retention := "3600000"
	detail := &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &retention}}
	if err := admin.CreateTopic(topic, detail, false); err != nil {
		return err
	}
	if err := admin.CreatePartitions(topic, 3, nil, false); err != nil {
		return err
	}
	codecs := []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD}
	for _, codec := range codecs {
		if err := saramaProduce(brokers, version, topic, codec); err != nil {
			return fmt.Errorf("produce in %s: %w", codec, err)
		}
	}
	group := "g-" + topic
	if err := saramaConsume(ctx, brokers, version, topic, group, records*len(codecs)); err != nil {
		return err
	}
	return saramaAdminister(admin, topic, group, int64(records*len(codecs)))
}

func saramaProduce(brokers []string, version sarama.KafkaVersion, topic string, codec sarama.CompressionCodec) error {
	c := saramaConfig(version)
	c.Producer.Compression = codec
	producer, err := sarama.NewSyncProducer(brokers, c)
	if err != nil {
		return err
	}
	defer producer.Close()
	messages := make([]*sarama.ProducerMessage, records)
	for i := range messages {
		messages[i] = &sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(fmt.Sprint("k", i)), Value: sarama.StringEncoder(fmt.Sprint(codec, i)),
			Headers: []sarama.RecordHeader{{Key: []byte("h"), Value: []byte("x")}},
		}
	}
	return producer.SendMessages(messages)
}

// counting ends a session when it has seen want records, each once.
type counting struct {
	mu   sync.Mutex
	seen map[string]bool
	want int
	done context.CancelFunc
	err  error
}

func (c *counting) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (c *counting) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (c *counting) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		s.MarkMessage(m, "")
		c.mu.Lock()
		at := fmt.Sprint(m.Partition, "/", m.Offset)
		if c.seen[at] {
			c.err = fmt.Errorf("record %s came twice", at)
		}
		c.seen[at] = true
		if len(c.seen) == c.want || c.err != nil {
			c.done()
		}
		c.mu.Unlock()
	}
	return nil
}

func saramaConsume(ctx context.Context, brokers []string, version sarama.KafkaVersion, topic, group string, want int) error {
	c := saramaConfig(version)
	if version.IsAtLeast(sarama.V2_3_0_0) {
		c.Consumer.Group.InstanceId = "static"
	}
	member, err := sarama.NewConsumerGroup(brokers, group, c)
	if err != nil {
		return err
	}
	session, cancel := context.WithCancel(ctx)
	defer cancel()
	handler := &counting{seen: map[string]bool{}, want: want, done: cancel}
	for session.Err() == nil {
		if err := member.Consume(session, []string{topic}, handler); err != nil {
			return err
		}
	}
	if err := member.Close(); err != nil {
		return err
	}
	if handler.err == nil && len(handler.seen) != want {
		return fmt.Errorf("consumed %d records, want %d", len(handler.seen), want)
	}
	return handler.err
}

func saramaAdminister(admin sarama.ClusterAdmin, topic, group string, want int64) error {
	offsets, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1, 2}})
	if err != nil {
		return err
	}
	var sum int64
	for _, b := range offsets.Blocks[topic] {
		sum += b.Offset
	}
	if sum != want {
		return fmt.Errorf("committed %d, want %d", sum, want)
	}
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}})
	if err != nil || len(entries) != 1 || entries[0].Value != "3600000" {
		return fmt.Errorf("describe config: %v, %v", entries, err)
	}
	if _, err := admin.DescribeConsumerGroups([]string{group}); err != nil {
		return err
	}
	if err := admin.DeleteRecords(topic, map[int32]int64{0: 1}); err != nil {
		return err
	}
	return admin.DeleteTopic(topic)
}
