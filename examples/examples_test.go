// Package examples holds complete programs that use Polar's optimizers from Go, one in each folder.
package examples

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// wanted says how far the loss of each example falls, at least.
var wanted = map[string]float64{"trainer": 0.02, "loop": 0.02}

var lossLine = regexp.MustCompile(`(?m)^step +\d+:.* loss ([0-9.]+)$`)

// TestExamples compiles and runs every example and reads its losses.
func TestExamples(t *testing.T) {
	folders, err := filepath.Glob("*/main.go")
	if err != nil || len(folders) != len(wanted) {
		t.Fatalf("found %v (error %v), want the %d examples that this test knows", folders, err, len(wanted))
	}
	for _, file := range folders {
		name := filepath.Dir(file)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := filepath.Join(t.TempDir(), name)
			command(t, "go", "build", "-o", program, "./"+name)
			out := command(t, program)
			losses := lossLine.FindAllStringSubmatch(out, -1)
			if len(losses) != 2 {
				t.Fatalf("want the losses of two steps, got:\n%s", out)
			}
			first, last := number(t, losses[0][1]), number(t, losses[1][1])
			if !(last <= wanted[name]*first) {
				t.Errorf("loss from %g to %g, want at most %g of it", first, last, wanted[name])
			}
		})
	}
}

// snippet puts the README's Go code where it belongs.
const snippet = `package main

import (
	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/polargo/polar/optimizer"
)

func use(backend compute.Backend, store *model.Store, modelFn func(*model.Scope, *graph.Node) *graph.Node, lossFn train.LossFn) error {
	CODE
	_ = trainer
	return nil
}

func main() { _ = use(nil, nil, nil, nil) }
`

// TestReadmeCompiles: what the README says about the Go interface is true.
func TestReadmeCompiles(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) != 1 {
		t.Fatalf("the README has %d blocks of Go, this test knows 1", len(blocks))
	}
	compile := func(code string) error {
		// The program exists only for the compiler, in this module but not in its folders.
		source, overlay := filepath.Join(t.TempDir(), "main.go"), filepath.Join(t.TempDir(), "overlay.json")
		if err := os.WriteFile(source, []byte(strings.Replace(snippet, "CODE", code, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		here, err := filepath.Abs("readme/main.go")
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(map[string]map[string]string{"Replace": {here: source}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(overlay, text, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("go", "build", "-overlay", overlay, "-o", os.DevNull, "./readme").CombinedOutput()
		if err != nil {
			t.Logf("%s", out)
		}
		return err
	}
	code := string(blocks[0][1])
	if err := compile(code); err != nil {
		t.Errorf("the README's Go does not compile: %v", err)
	}
	if compile(strings.Replace(code, "optimizer.Default", "optimizer.Defaults", 1)) == nil {
		t.Error("a name that does not exist compiles: the test has no bite")
	}
}

// command runs a program and returns its output.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out, problems bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, problems.String())
	}
	return out.String()
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}
