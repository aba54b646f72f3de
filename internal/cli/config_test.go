package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/polargo/polar/run"
)

// configFile writes a configuration file and returns its path.
func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigErrorsNameFileLineAndNearestKey(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"unknown key":       {"model: m\nlearing_rate: 1\n", []string{`run.yaml:2: unknown key "learing_rate"; did you mean "learning_rate"?`}},
		"far key":           {"\nzzzzzz: 1\n", []string{`run.yaml:2: unknown key "zzzzzz"; a key is a flag's name`}},
		"camel key":         {"learningRate: 1\n", []string{`run.yaml:1: unknown key "learningRate"; did you mean "learning_rate"?`}},
		"number":            {"# a comment\nlearning_rate: fast\n", []string{`run.yaml:2: learning_rate: want a number, got "fast"`}},
		"nan":               {"learning_rate: .nan\n", []string{`run.yaml:1: learning_rate: want a number`}},
		"underscore":        {"learning_rate: _1\n", []string{`run.yaml:1: learning_rate: want a number`}},
		"whole number":      {"rank: 2.5\n", []string{`run.yaml:1: rank: want a whole number, got "2.5"`}},
		"bool":              {"packing: perhaps\n", []string{`run.yaml:1: packing: want true or false, got "perhaps"`}},
		"choice":            {"schedule: cosin\n", []string{`run.yaml:1: schedule: unknown value "cosin", want one of constant, linear, cosine, wsd; did you mean "cosine"?`}},
		"optimizer":         {"optimizer: adamv\n", []string{`run.yaml:1: optimizer: unknown value "adamv"`, `did you mean "adamw"?`}},
		"list for a scalar": {"model: [a, b]\n", []string{`run.yaml:1: model: want a plain value, got a sequence`}},
		"map for a list":    {"targets: {a: b}\n", []string{`run.yaml:1: targets: want a list`}},
		"no value":          {"model:\n", []string{`run.yaml:1: model: has no value`}},
		"twice":             {"rank: 1\nseed: 2\nrank: 2\n", []string{`run.yaml:3: rank: set twice, first on line 1`}},
		"twice, two forms":  {"eval_every: 1\neval-every: 2\n", []string{`run.yaml:2: eval-every: set twice, first on line 1`}},
		"twice, an alias":   {"lr: 1\nlearning_rate: 2\n", []string{`run.yaml:2: learning_rate: set twice, first on line 1`}},
		"not a key":         {"config: other.yaml\n", []string{`run.yaml:1: unknown key "config"`}},
		"syntax":            {"model: m\n  rank: [1\n", []string{`run.yaml:`}},
		"manifold's key":    {"manifold:\n  set: ball\n  radios: 1\n", []string{`run.yaml:3: manifold: unknown key "radios"; known: set, radius,`, `did you mean "radius"?`}},
		"manifold's number": {"manifold: {set: ball,\n  radius: big}\n", []string{`run.yaml:2: manifold: radius: want a number, got "big"`}},
		"manifold's steps":  {"\nmanifold: {set: psd, steps: 1.5}\n", []string{`run.yaml:2: manifold: steps: want a whole number, got "1.5"`}},
		"manifold's set":    {"manifold: {set: bal, radius: 1}\n", []string{`run.yaml:1: manifold: unknown set "bal"; known: psd, spectrahedron, ball, band, stiefel; did you mean "ball"?`}},
		"manifold as text":  {"rank: 0\nmanifold: set=ball\n", []string{`run.yaml:2: manifold: set ball wants a positive radius`}},
		"manifold's value":  {"manifold:\n  set:\n", []string{`run.yaml:2: manifold: set: has no value`}},
		"manifold nested":   {"manifold:\n  set: {a: b}\n", []string{`run.yaml:2: manifold: set: want a plain value`}},
		"manifold twice":    {"manifold:\n  set: psd\n  set: ball\n", []string{`run.yaml:3: set: set twice, first on line 2`}},
		"manifold a list":   {"manifold: [set, psd]\n", []string{`run.yaml:1: manifold: want 'key: value' lines or one text`}},
		"no mapping":        {"- a\n- b\n", []string{`run.yaml:1: want lines of the form 'key: value'`}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			if status := f.main(t.Context(), []string{"finetune", "--model", "m", "--data", "d", "--config", configFile(t, test.text)}); status != statusUsage {
				t.Errorf("status %d, want %d", status, statusUsage)
			}
			mustSay(t, f.err.String(), test.want...)
			if lines := strings.Count(f.err.String(), "\n"); lines > 2 || len(f.configs) > 0 {
				t.Errorf("want one clear line and no run, got:\n%s", f.err.String())
			}
		})
	}
}

func TestConfigNumbers(t *testing.T) {
	for text, want := range map[string]float64{
		"2e-5": 2e-5, `"2e-5"`: 2e-5, "2.0E-5": 2e-5, "'0.1'": 0.1, "1_000": 1000, "1_000.5": 1000.5, "3": 3, "-1": -1, ".5": 0.5, "1e+2": 100,
	} {
		f := newFake(t)
		args := []string{"finetune", "--model", "m", "--data", "d", "--quiet", "--config", configFile(t, "momentum: "+text+"\n")}
		if status := f.main(t.Context(), args); status != statusOK {
			t.Errorf("%s: %s", text, f.err.String())
		} else if got := f.configs[0].Momentum; got != want {
			t.Errorf("%s read as %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]int{"1_000": 1000, `"64"`: 64, "1e3": 1000, "2.0": 2, "-1": -1} {
		f := newFake(t)
		args := []string{"finetune", "--model", "m", "--data", "d", "--quiet", "--config", configFile(t, "steps: "+text+"\n")}
		if status := f.main(t.Context(), args); status != statusOK {
			t.Errorf("%s: %s", text, f.err.String())
		} else if got := f.configs[0].Steps; got != want {
			t.Errorf("%s read as %v, want %v", text, got, want)
		}
	}
}

// TestManifoldForms: the flag, one text in a file, keys below the setting's own and keys in braces mean the same.
func TestManifoldForms(t *testing.T) {
	want := "set=ball,radius=4,norm=spectral,solver=alternating,steps=2,params=q_proj,*.up_proj"
	file := func(text string) []string { return []string{"--config", configFile(t, text)} }
	for name, args := range map[string][]string{
		"flag":   {"--manifold", "set=ball,radius=4,steps=2,params=q_proj,*.up_proj"},
		"text":   file("manifold: set=ball,radius=4,steps=2,params=q_proj,*.up_proj\n"),
		"keys":   file("manifold:\n  set: ball\n  radius: 4\n  steps: 2\n  params:\n    - q_proj\n    - '*.up_proj'\n"),
		"braces": file("manifold: {set: ball, radius: 4.0, solver: alternating, steps: 2, params: [q_proj, \"*.up_proj\"]}\n"),
	} {
		f := newFake(t)
		if status := f.main(t.Context(), append([]string{"train", "--quiet"}, args...)); status != statusOK {
			t.Errorf("%s: %s", name, f.err.String())
		} else if got := f.configs[0].Manifold.String(); got != want {
			t.Errorf("%s: read as %q, want %q", name, got, want)
		}
	}
	f := newFake(t)
	if status := f.main(t.Context(), append([]string{"train", "--quiet", "--manifold="}, file("manifold: {set: psd}\n")...)); status != statusOK || f.configs[0].Manifold.On() {
		t.Errorf("an empty flag does not turn the file's manifold off: %s %v", f.err.String(), f.configs)
	}
}

func TestFlagBeatsConfigBeatsDefault(t *testing.T) {
	f := newFake(t)
	path := configFile(t, "model: m\ndata: d\nrank: 8\nbatch: 32\ntargets: [q_proj, \"/a{1,2}/\"]\npacking: false\nguard: true\n")
	if status := f.main(t.Context(), []string{"finetune", "-c", path, "--rank", "4", "--no-guard", "--quiet"}); status != statusOK {
		t.Fatal(f.err.String())
	}
	cfg := f.configs[0]
	if cfg.Rank != 4 || cfg.Batch != 32 || cfg.Accumulate != 1 || cfg.Model != "m" || cfg.Packing || cfg.Guard {
		t.Errorf("rank %d (flag 4), batch %d (file 32), accumulate %d (default 1), model %q, packing %v (file), guard %v (flag)", cfg.Rank, cfg.Batch, cfg.Accumulate, cfg.Model, cfg.Packing, cfg.Guard)
	}
	if want := []string{"q_proj", "/a{1,2}/"}; !reflect.DeepEqual(cfg.Targets, want) {
		t.Errorf("targets %q, want %q", cfg.Targets, want)
	}
}

// otherValue returns a text that differs from any default for a field, one of its choices where it has choices.
func otherValue(field reflect.StructField) string {
	switch field.Name {
	case "Optimizer":
		return "sgd"
	case "Manifold":
		return "set=psd"
	}
	if choices := strings.Split(field.Tag.Get("enum"), ","); len(choices) > 1 {
		for _, choice := range choices {
			if choice != field.Tag.Get("default") {
				return choice
			}
		}
	}
	switch field.Type.Kind() {
	case reflect.Bool:
		return fmt.Sprint(field.Tag.Get("default") != "true")
	case reflect.Int, reflect.Int64:
		return "7"
	case reflect.Float64:
		return "0.375"
	case reflect.Slice:
		return "o_proj"
	}
	return "word"
}

// TestEveryFieldReachesTheRun changes each field of run.Config and run.Lab by its flag and by its key, and wants the
// change, and no other, in the configuration that the run gets.
func TestEveryFieldReachesTheRun(t *testing.T) {
	base := func(command string, extra ...string) (run.Config, string) {
		f := newFake(t)
		args := append([]string{command, "--quiet"}, extra...)
		if command == "finetune" && !strings.Contains(strings.Join(extra, " "), "model") {
			args = append(args, "--model", "m")
		}
		if !strings.Contains(strings.Join(extra, " "), "--data=") && !strings.Contains(strings.Join(extra, " "), "/data.yaml") {
			args = append(args, "--data", "d")
		}
		if status := f.main(t.Context(), args); status != statusOK {
			return run.Config{}, f.err.String()
		}
		return f.configs[0], ""
	}
	for command, example := range map[string]any{"finetune": run.Config{}, "train": run.Lab{}} {
		kind := reflect.TypeOf(example)
		for i := range kind.NumField() {
			field := kind.Field(i)
			if field.Tag.Get("kong") == "-" {
				continue
			}
			key, value := run.SettingKey(field), otherValue(field)
			flag := "--" + strings.ReplaceAll(key, "_", "-") + "=" + value
			if field.Type.Kind() == reflect.Bool && value == "false" {
				flag = "--no-" + strings.ReplaceAll(key, "_", "-")
			}
			path := filepath.Join(t.TempDir(), key+".yaml")
			if err := os.WriteFile(path, []byte(key+": "+value+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			before, _ := base(command)
			for _, how := range []string{flag, "--config=" + path} {
				after, problem := base(command, how)
				if problem != "" {
					t.Errorf("%s %s: %s", command, how, problem)
					continue
				}
				was, is := part(before, command), part(after, command)
				for j := range kind.NumField() {
					same := reflect.DeepEqual(was.Field(j).Interface(), is.Field(j).Interface())
					if kind.Field(j).Name != "Lab" && same == (j == i) {
						t.Errorf("%s %s: field %s: %v -> %v", command, how, kind.Field(j).Name, was.Field(j).Interface(), is.Field(j).Interface())
					}
				}
			}
		}
	}
}

// part is the struct under test of a configuration.
func part(cfg run.Config, command string) reflect.Value {
	if command == "train" {
		return reflect.ValueOf(*cfg.Lab)
	}
	return reflect.ValueOf(cfg)
}

func TestPrintedConfigCanBeFedBack(t *testing.T) {
	odd := []string{"--lr=2e-5", "--targets=q_proj", "--targets=v_proj", "--sample-prompt=a \"b\": #c\n\td", "--no-packing", "--seed=-3", "--model=yes", "--data=1e5",
		"--manifold=set=spectrahedron,lo=-1,hi=1e-3,params=q_proj,*.v_proj,solver=pdhg"}
	f := newFake(t)
	if status := f.main(t.Context(), append([]string{"finetune", "--print-config"}, odd...)); status != statusOK {
		t.Fatal(f.err.String())
	}
	if len(f.configs) > 0 {
		t.Error("--print-config ran")
	}
	path := configFile(t, f.out.String())
	direct, again := newFake(t), newFake(t)
	if status := direct.main(t.Context(), append([]string{"finetune", "--quiet"}, odd...)); status != statusOK {
		t.Fatal(direct.err.String())
	}
	if status := again.main(t.Context(), []string{"finetune", "--quiet", "--config", path}); status != statusOK {
		t.Fatal(again.err.String())
	}
	if !reflect.DeepEqual(direct.configs[0], again.configs[0]) {
		t.Errorf("directly %+v\nfrom the printed file %+v", direct.configs[0], again.configs[0])
	}
}

func TestRunFoldersConfigCanBeFedBack(t *testing.T) {
	for _, args := range [][]string{{"finetune", "--model", "m", "--data", "d"}, {"train", "--pair-rank", "8"}} {
		f := newFake(t)
		if status := f.main(t.Context(), append(args, "--quiet")); status != statusOK {
			t.Fatal(f.err.String())
		}
		cfg := f.configs[0]
		if cfg.Rank > 0 {
			cfg.Alpha = float64(cfg.Rank) // as a run resolves it
		}
		var text strings.Builder
		for _, item := range cfg.Settings() {
			fmt.Fprintf(&text, "%s: %s\n", item.Key, yamlValue(reflect.ValueOf(item.Value)))
		}
		again := newFake(t)
		if status := again.main(t.Context(), []string{args[0], "--quiet", "--config", configFile(t, text.String())}); status != statusOK {
			t.Fatalf("%s: %s", args[0], again.err.String())
		}
		if got := again.configs[0]; !reflect.DeepEqual(got, cfg) {
			t.Errorf("%s: wrote %+v, read %+v", args[0], cfg, got)
		}
	}
}
