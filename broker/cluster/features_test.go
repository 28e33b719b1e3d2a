package cluster

import (
	"errors"
	"runtime"
	"testing"

	"github.com/millrace-io/millrace/broker/controller"
)

// TestLeftBehind: a node of a cluster whose level its build does not know ends, and
// applies nothing more.
func TestLeftBehind(t *testing.T) {
	c, l := newCluster(t, 1)
	if l := c.Metadata().Level; l != controller.LevelBuild {
		t.Fatalf("a cluster of this build is at level %d", l)
	}
	nodes := []controller.NodeBuild{{ID: 0, Level: controller.LevelBuild + 1}}
	var why error
	c.o.Fatal = func(err error) {
		why = err
		runtime.Goexit() // a process would end
	}
	version, ended := c.Metadata().Version, make(chan struct{})
	go func() {
		defer close(ended)
		cmd, _ := controller.Command{ActivateFeatures: &controller.ActivateFeatures{Level: controller.LevelBuild + 1, Nodes: nodes}}.Encode()
		l.apply(cmd)
	}()
	<-ended
	if !errors.Is(why, ErrOldBuild) || c.Metadata().Version != version {
		t.Errorf("version %d, %v", c.Metadata().Version, why)
	}
}
