package run

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/internal/atomicfile"
)

const (
	runFile    = "run.json"
	configFile = "config.yaml"
	resultFile = "result.json"
)

// record is run.json: what the run is, for resuming and for people who find the folder later.
type record struct {
	Config   Config            `json:"config"`
	Base     string            `json:"base"` // fingerprint of the base model
	Data     string            `json:"data"` // fingerprint of the data
	Identity string            `json:"identity"`
	Versions map[string]string `json:"versions"`
}

// freeToChange are the settings that a resumed run may change: they do not decide the path of the weights. The base
// model and the data are held by their fingerprints, wherever they are.
var freeToChange = map[string]bool{
	"out": true, "resume": true, "verify": true, "backend": true, "offline": true, "revision": true, "model": true, "data": true,
	"validation_data": true, "eval_every": true, "eval_batches": true, "save_every": true, "sample_every": true, "export": true,
	"sample_prompt": true, "sample_tokens": true, "patience": true, "activation_checkpointing": true, "certify_invariance": true,
}

// decisive returns the settings that decide the path of the weights, by key.
func (c Config) decisive() map[string]string {
	out := map[string]string{}
	for _, item := range c.Settings() {
		if key := fmt.Sprint(item.Key); !freeToChange[key] {
			out[key] = fmt.Sprint(item.Value)
		}
	}
	return out
}

// identity hashes what decides the path of the weights: not where a run writes, how often it saves, or what it prints.
func identity(c Config, base, data string) string {
	text, err := json.Marshal(c.decisive()) // its keys are sorted
	if err != nil {
		panic(err) // a map of strings always marshals
	}
	sum := sha256.Sum256([]byte(base + "\n" + data + "\n" + string(text)))
	return hex.EncodeToString(sum[:])
}

// differences names what a run with this record, base and data would change in the run that was recorded.
func (r record) differences(c Config, base, data string) []string {
	var out []string
	if r.Base != base {
		out = append(out, "the base model")
	}
	if r.Data != data {
		out = append(out, "the data")
	}
	old, now := r.Config.decisive(), c.decisive()
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if was, ok := old[key]; !ok || was != now[key] {
			out = append(out, fmt.Sprintf("%s (%s, was %s)", key, now[key], was))
		}
	}
	return out
}

// writeFolder creates the run folder with its record and its resolved configuration.
func (r record) writeFolder() error {
	if err := os.MkdirAll(filepath.Join(r.Config.Out, checkpointsName), 0o755); err != nil {
		return fmt.Errorf("create run folder: %w", err)
	}
	text, err := yaml.Marshal(r.Config.Settings())
	if err != nil {
		return err
	}
	head := "# resolved configuration of this run; use it again with --config\n"
	if err := atomicfile.WriteBytes(filepath.Join(r.Config.Out, configFile), append([]byte(head), text...)); err != nil {
		return err
	}
	return writeJSON(filepath.Join(r.Config.Out, runFile), r) // last: it marks the folder as a run
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, append(text, '\n'))
}

// readRecord reads the record of the run in folder.
func readRecord(folder string) (record, error) {
	var r record
	path := filepath.Join(folder, runFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// versions lists what decides a run's numbers besides its settings: Go, the libraries, the backend.
func versions(backendName string) map[string]string {
	out := map[string]string{
		"go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
		"backend": backend.Name(backendName), "instructions": backend.Instructions(backendName),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}
	out["polar"] = info.Main.Version
	for _, module := range info.Deps {
		if strings.HasPrefix(module.Path, "github.com/gomlx/") {
			out[module.Path] = module.Version
		}
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" || setting.Key == "GOEXPERIMENT" {
			out[setting.Key] = setting.Value
		}
	}
	return out
}

// otherVersions names the versions that differ from those a run began with.
func otherVersions(old, now map[string]string) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if was, ok := old[key]; ok && was != now[key] {
			out = append(out, fmt.Sprintf("%s %s, was %s", key, now[key], was))
		}
	}
	return out
}

// Settings returns the configuration as keys of a configuration file, in the order of the fields.
func (c Config) Settings() yaml.MapSlice {
	settings := appendSettings(nil, reflect.ValueOf(c))
	if c.Lab != nil {
		settings = appendSettings(settings, reflect.ValueOf(*c.Lab))
	}
	return settings
}

func appendSettings(settings yaml.MapSlice, value reflect.Value) yaml.MapSlice {
	for i := range value.NumField() {
		field := value.Type().Field(i)
		if field.Tag.Get("kong") == "-" {
			continue
		}
		settings = append(settings, yaml.MapItem{Key: SettingKey(field), Value: value.Field(i).Interface()})
	}
	return settings
}

// SettingKey returns the configuration key of a field of Config or Lab: its flag's name with _ for -.
func SettingKey(field reflect.StructField) string {
	if name := field.Tag.Get("name"); name != "" {
		return strings.ReplaceAll(name, "-", "_")
	}
	var key strings.Builder
	for i, letter := range field.Name {
		if unicode.IsUpper(letter) && i > 0 {
			key.WriteByte('_')
		}
		key.WriteRune(unicode.ToLower(letter))
	}
	return key.String()
}
