package js

import (
	"os/exec"
	"testing"
)

// TestNode runs the SDK's own tests, those of the engine too if it is built, with Node.
func TestNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node: the SDK's tests in JavaScript are not run")
	}
	for _, file := range []string{"test/testing.test.mjs", "test/engine.test.mjs"} {
		t.Run(file, func(t *testing.T) {
			// The ABI promises a guest a stack of 2 MiB.
			out, err := exec.Command(node, "--stack-size=3900", "--test-reporter=dot", file).CombinedOutput()
			if err != nil {
				out, _ = exec.Command(node, "--stack-size=3900", file).CombinedOutput()
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}
