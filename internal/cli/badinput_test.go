package cli

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polargo/polar/optimizer"
)

// baseModel trains a tiny model and returns its folder.
func baseModel(t *testing.T, text string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "base")
	must(t, "train", "--offline", "--data", text, "--layers=1", "--hidden=16", "--heads=2", "--steps=1", "--batch=2", "--length=16", "--sample-tokens=0", "-o", out)
	return filepath.Join(out, "model")
}

// copyOf copies a model's folder, and change damages the copy.
func copyOf(t *testing.T, model string, change func(dir string) error) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	if err := change(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rewrite returns a change that replaces a file's content.
func rewrite(name string, edit func([]byte) []byte) func(string) error {
	return func(dir string) error {
		path := filepath.Join(dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, edit(content), 0o644)
	}
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBadInputIsOneClearLine runs the program on what people really give it: one line that names the file and what is
// wrong, at most a hint, a status that is not 0, no output and no run folder.
func TestBadInputIsOneClearLine(t *testing.T) {
	text := textFile(t)
	model := baseModel(t, text)
	weights := "model.safetensors"
	gguf, err := os.ReadFile(filepath.Join("..", "..", "model", "hf", "testdata", "qwen2.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	nan := math.Float32bits(float32(math.NaN()))
	finetune := func(model, data string, more ...string) []string {
		return append([]string{"finetune", "--offline", "--model", model, "--data", data, "--rank=2", "--steps=2", "--batch=2", "--length=16"}, more...)
	}
	damaged := func(change func(string) error) []string { return finetune(copyOf(t, model, change), text) }
	for _, test := range []struct {
		name   string
		args   []string
		status int
		want   []string
	}{
		{"no such model", finetune(filepath.Join(model, "nowhere"), text), statusFailed, []string{"nowhere", "no such file or folder"}},
		{"no weights", damaged(func(dir string) error { return os.Remove(filepath.Join(dir, weights)) }), statusFailed, []string{"model.safetensors"}},
		{"truncated weights", damaged(rewrite(weights, func(b []byte) []byte { return b[:len(b)-100] })), statusFailed, []string{weights}},
		{"header beyond the file", damaged(rewrite(weights, func(b []byte) []byte {
			return append(binary.LittleEndian.AppendUint64(nil, 1<<40), b[8:]...)
		})), statusFailed, []string{weights, "header"}},
		{"empty weights", damaged(rewrite(weights, func([]byte) []byte { return nil })), statusFailed, []string{weights}},
		{"NaN weights", damaged(rewrite(weights, func(b []byte) []byte {
			return append(b[:len(b)-4], binary.LittleEndian.AppendUint32(nil, nan)...)
		})), statusFailed, []string{"NaN or infinity"}},
		{"unknown architecture", damaged(rewrite("config.json", func(b []byte) []byte {
			return []byte(strings.ReplaceAll(string(b), "polar_lab", "mamba"))
		})), statusFailed, []string{"config.json", "mamba"}},
		{"config is no JSON", damaged(rewrite("config.json", func([]byte) []byte { return []byte("{") })), statusFailed, []string{"config.json"}},
		{"no config", damaged(func(dir string) error { return os.Remove(filepath.Join(dir, "config.json")) }), statusFailed, []string{"no config.json"}},
		{"no tokenizer", damaged(func(dir string) error {
			left, err := filepath.Glob(filepath.Join(dir, "*tokenizer*"))
			for _, path := range left {
				err = os.Remove(path)
			}
			return err
		}), statusFailed, []string{"tokenizer missing"}},
		{"truncated GGUF", finetune(file(t, "short.gguf", string(gguf[:len(gguf)/2])), text), statusFailed, []string{"short.gguf"}},
		{"GGUF header only", finetune(file(t, "head.gguf", string(gguf[:20])), text), statusFailed, []string{"head.gguf"}},
		{"no GGUF at all", finetune(file(t, "text.gguf", "plain text"), text), statusFailed, []string{"text.gguf"}},

		{"no such data", finetune(model, "nowhere.txt"), statusFailed, []string{"nowhere.txt"}},
		{"empty text", finetune(model, file(t, "empty.txt", "")), statusFailed, []string{"empty.txt"}},
		{"empty rows", finetune(model, file(t, "empty.jsonl", "\n\n")), statusFailed, []string{"empty.jsonl"}},
		{"malformed row", finetune(model, file(t, "rows.jsonl", `{"text": "the dog"}`+"\n"+`{"text": "the`)), statusFailed, []string{"rows.jsonl:2"}},
		{"row without text", finetune(model, file(t, "rows.jsonl", `{"text": "the dog"}`+"\n"+`{"txet": "the dog"}`)), statusFailed, []string{"rows.jsonl:2", "txet"}},
		{"all masked", finetune(model, file(t, "rows.jsonl", `{"prompt": "the dog", "completion": "sleeps"}`+"\n"+`{"prompt": "the dog", "completion": ""}`)), statusFailed, []string{"rows.jsonl:2"}},
		{"messages without a template", finetune(model, file(t, "rows.jsonl", strings.Repeat(`{"messages": [{"role": "user", "content": "the"}, {"role": "assistant", "content": "dog"}]}`+"\n", 4))), statusFailed, []string{"chat template"}},
		{"text too short", finetune(model, file(t, "short.txt", "the dog")), statusFailed, []string{"one row of length 16 needs 17"}},
		{"length beyond the model", finetune(model, text, "--length=100000"), statusFailed, []string{"length 100000", "positions"}},

		{"rank too large", finetune(model, text, "--rank=17"), statusFailed, []string{"rank 17 is larger than layer", "16 x 16"}},
		{"decay times rate", finetune(model, text, "--learning-rate=2", "--weight-decay=0.5"), statusFailed, []string{"weight decay 0.5 times learning rate 2"}},
		{"negative rate", finetune(model, text, "--learning-rate=-1"), statusFailed, []string{"learning rate must be positive"}},
		{"unknown target", finetune(model, text, "--targets=q_porj"), statusFailed, []string{`"q_porj" matches nothing`, "q_proj"}},
		{"unknown optimizer", finetune(model, text, "--optimizer=adamww"), statusUsage, append([]string{"adamww"}, optimizer.Names(nil)...)},
		{"unknown optimizer in YAML", finetune(model, text, "--config", file(t, "c.yaml", "optimizer: adamww\n")), statusUsage, []string{"c.yaml:1", "adamww", "lora-muon"}},
		{"unknown key", finetune(model, text, "--config", file(t, "c.yaml", "learing_rate: 1\n")), statusUsage, []string{"c.yaml:1", "learing_rate", `"learning_rate"`}},
		{"muon on adapters", finetune(model, text, "--optimizer=muon"), statusFailed, []string{"muon trains dense weights", "lora-muon"}},
		{"option of another init", finetune(model, text, "--init=lora", "--init-scale=0.1"), statusFailed, []string{"init-scale is only for adapters with init balanced or gradient"}},
		{"option of another optimizer", finetune(model, text, "--optimizer=adamw", "--rebalance-every=2"), statusFailed, []string{"rebalancing is only for lora-muon"}},
		{"uneven micro-batches", finetune(model, text, "--accumulate=3"), statusFailed, []string{"batch 2 cannot be split into 3"}},
		{"backend that hangs", finetune(model, text, "--backend=go:parallelism=2"), statusFailed, []string{"can hang"}},
		{"unknown backend", finetune(model, text, "--backend=tpu"), statusFailed, []string{`unknown backend "tpu"`}},
		{"prompt outside the vocabulary", finetune(model, text, "--sample-prompt=日本"), statusFailed, []string{"sample prompt"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "run")
			status, stdout, stderr := real(t, append(test.args, "--quiet", "-o", out)...)
			lines := strings.Split(strings.TrimRight(stderr, "\n"), "\n")
			if status != test.status || stdout != "" || len(lines) > 2 || !strings.HasPrefix(lines[0], "polar: ") || (len(lines) == 2 && !strings.HasPrefix(lines[1], "hint: ")) {
				t.Errorf("status %d, want %d; output %q; want one line and at most a hint:\n%s", status, test.status, stdout, stderr)
			}
			mustSay(t, stderr, test.want...)
			if strings.Contains(stderr, "internal error") {
				t.Errorf("a panic: %s", stderr)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("the run folder was made all the same")
			}
		})
	}
}

// TestNumbersInYAML: 2e-5 is a number, quoted or not, although YAML 1.1 reads the first as text.
func TestNumbersInYAML(t *testing.T) {
	text := textFile(t)
	model := baseModel(t, text)
	for _, value := range []string{"2e-5", `"2e-5"`, "2.0e-05", "0.00002"} {
		config := file(t, "c.yaml", "learning_rate: "+value+"\nrank: 2\nsteps: 1\nlength: 16\nbatch: 2\n")
		out := must(t, "finetune", "--offline", "--model", model, "--data", text, "--config", config, "--dry-run")
		mustSay(t, out, "2e-05")
	}
}
