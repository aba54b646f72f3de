package cli

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/polargo/polar/internal/nearest"
)

// configPath is the type of the --config flag: when it is given, the file's keys become values of the flags that the
// command line leaves out.
type configPath string

// BeforeResolve reads the file; kong calls it between parsing the command line and applying values and defaults.
func (configPath) BeforeResolve(ctx *kong.Context, trace *kong.Path) error {
	path := string(ctx.FlagValue(trace.Flag).(configPath))
	text, err := os.ReadFile(path)
	if err != nil {
		return usagef("", "config file: %w", err)
	}
	settings, err := readSettings(path, text, ctx.Flags())
	if err != nil {
		return err
	}
	ctx.AddResolver(settings)
	return nil
}

// settings are the values of a configuration file by flag name, in the forms that kong's mappers take: a string for
// scalars and mappings, []any for lists.
type settings map[string]any

// Validate is part of kong.Resolver; the values were checked when they were read.
func (s settings) Validate(*kong.Application) error { return nil }

// Resolve returns the value of a flag, nil where the file has none.
func (s settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	return s[flag.Name], nil
}

// notKeys are the flags that make no sense in a file.
var notKeys = []string{"help", "config", "print-config"}

// readSettings reads a configuration file for a command with these flags. Errors name file and line, and for an unknown
// key the nearest known one.
func readSettings(path string, text []byte, flags []*kong.Flag) (settings, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, syntaxError(path, err)
	}
	out := settings{}
	lines := map[string]int{}
	for _, document := range file.Docs {
		pairs, err := keyValues(path, document.Body)
		if err != nil {
			return nil, err
		}
		for _, pair := range pairs {
			key, line := pair.Key.GetToken().Value, pair.Key.GetToken().Position.Line
			fail := func(format string, args ...any) error {
				return usagef("", "%s:%d: %s: %w", path, line, key, fmt.Errorf(format, args...))
			}
			flag := flagOfKey(key, flags)
			if flag == nil {
				return nil, usagef("", "%s:%d: unknown key %q%s", path, line, key, nearKey(key, flags))
			}
			if first, twice := lines[flag.Name]; twice {
				return nil, fail("set twice, first on line %d", first)
			}
			lines[flag.Name] = line
			value, err := flagValue(flag, pair.Value)
			var nested *nestedError
			if errors.As(err, &nested) {
				line = nested.line
			}
			if err != nil {
				return nil, fail("%w", err)
			}
			out[flag.Name] = value
		}
	}
	return out, nil
}

// keyValues returns the pairs of a document: none when it is empty, an error when it is not a mapping.
func keyValues(path string, body ast.Node) ([]*ast.MappingValueNode, error) {
	switch node := body.(type) {
	case nil:
		return nil, nil
	case *ast.NullNode, *ast.CommentGroupNode:
		return nil, nil
	case *ast.MappingNode:
		return node.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{node}, nil
	default:
		return nil, usagef("", "%s:%d: want lines of the form 'key: value'", path, body.GetToken().Position.Line)
	}
}

var (
	yamlPosition  = regexp.MustCompile(`^\[(\d+):(\d+)\]\s*(.*)`)
	yamlDuplicate = regexp.MustCompile(`mapping key "(.*)" already defined at \[(\d+):`)
)

// syntaxError gives a YAML error the form file:line: message.
func syntaxError(path string, err error) error {
	first, _, _ := strings.Cut(err.Error(), "\n")
	at := yamlPosition.FindStringSubmatch(first)
	if at == nil {
		return usagef("", "%s: %s", path, oneLine(err.Error()))
	}
	if twice := yamlDuplicate.FindStringSubmatch(at[3]); twice != nil {
		return usagef("", "%s:%s: %s: set twice, first on line %s", path, at[1], twice[1], twice[2])
	}
	return usagef("", "%s:%s: %s", path, at[1], at[3])
}

// settingKey is the configuration key of a flag.
func settingKey(flag *kong.Flag) string { return strings.ReplaceAll(flag.Name, "-", "_") }

// flagOfKey returns the flag that a key sets: its name or an alias, with _ or -.
func flagOfKey(key string, flags []*kong.Flag) *kong.Flag {
	name := strings.ReplaceAll(key, "_", "-")
	for _, flag := range flags {
		if (flag.Name == name || slices.Contains(flag.Aliases, name)) && !slices.Contains(notKeys, flag.Name) {
			return flag
		}
	}
	return nil
}

// nearKey names the key that an unknown one is most likely a slip of.
func nearKey(key string, flags []*kong.Flag) string {
	var keys []string
	for _, flag := range flags {
		if !slices.Contains(notKeys, flag.Name) && !flag.Hidden {
			keys = append(keys, settingKey(flag))
		}
	}
	if near := nearest.Word(strings.ToLower(strings.ReplaceAll(key, "-", "_")), keys); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return "; a key is a flag's name with _ for -"
}

// flagValue converts a node to what the flag's mapper takes, or says what the flag wants instead.
func flagValue(flag *kong.Flag, node ast.Node) (any, error) {
	if target, ok := reflect.New(flag.Target.Type()).Interface().(mapping); ok {
		return mappingValue(target, node)
	}
	if flag.Target.Kind() != reflect.Slice {
		text, err := scalar(node)
		if err != nil {
			return nil, err
		}
		return scalarValue(flag, text)
	}
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		text, err := scalar(node)
		if err != nil {
			return nil, fmt.Errorf("want a list, %w", err)
		}
		return []any{text}, nil
	}
	values := []any{}
	for _, item := range list.Values {
		text, err := scalar(item)
		if err != nil {
			return nil, err
		}
		values = append(values, text)
	}
	if len(values) == 0 && !flag.HasDefault {
		return nil, nil // as where the flag is not given
	}
	return values, nil
}

// scalar returns the text of a plain value, quoted or not.
func scalar(node ast.Node) (string, error) {
	switch value := node.(type) {
	case *ast.StringNode:
		return value.Value, nil
	case *ast.LiteralNode:
		return value.Value.Value, nil
	case *ast.NullNode:
		return "", errors.New("has no value")
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value, nil
	}
	return "", fmt.Errorf("want a plain value, got a %s", strings.ToLower(node.Type().String()))
}

// scalarValue checks and normalises the text of a value for a flag's type.
func scalarValue(flag *kong.Flag, text string) (any, error) {
	switch flag.Target.Kind() {
	case reflect.Bool:
		if text != "true" && text != "false" {
			return nil, fmt.Errorf("want true or false, got %q", text)
		}
	case reflect.Float64:
		value, err := parseFloat(text)
		if err != nil {
			return nil, err
		}
		return strconv.FormatFloat(value, 'g', -1, 64), nil
	case reflect.Int, reflect.Int64:
		value, err := parseInt(text)
		if err != nil {
			return nil, err
		}
		return strconv.FormatInt(value, 10), nil
	}
	if err := checkChoice(flag, text); err != nil {
		return nil, err
	}
	return text, nil
}

// checkChoice refuses a value outside a flag's list of choices, naming the nearest.
func checkChoice(flag *kong.Flag, text string) error {
	choices := flag.EnumSlice()
	if flag.Enum == "" || slices.Contains(choices, text) {
		return nil
	}
	near := ""
	if word := nearest.Word(text, choices); word != "" {
		near = fmt.Sprintf("; did you mean %q?", word)
	}
	return fmt.Errorf("unknown value %q, want one of %s%s", text, strings.Join(choices, ", "), near)
}
