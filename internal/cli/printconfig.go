package cli

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// notSettings are the flags that --print-config leaves out: they say what this invocation does, not what a run is.
var notSettings = []string{"dry-run", "debug"}

// printConfig writes the values of a command's flags as YAML that --config reads back.
func printConfig(out io.Writer, parsed *kong.Context) error {
	var text strings.Builder
	group := ""
	for _, flag := range parsed.Selected().Flags {
		if flag.Hidden || slices.Contains(notKeys, flag.Name) || slices.Contains(notSettings, flag.Name) {
			continue
		}
		if flag.Group != nil && flag.Group.Key != group {
			group = flag.Group.Key
			fmt.Fprintf(&text, "# %s\n", flag.Group.Title)
		}
		fmt.Fprintf(&text, "%s: %s\n", settingKey(flag), yamlValue(reflect.ValueOf(parsed.FlagValue(flag))))
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// yamlValue writes a flag's value as YAML on one line.
func yamlValue(value reflect.Value) string {
	if mapped, ok := value.Interface().(pairs); ok {
		return yamlMapping(mapped)
	}
	switch value.Kind() {
	case reflect.Float64:
		return strconv.FormatFloat(value.Float(), 'g', -1, 64)
	case reflect.String:
		return yamlString(value.String())
	case reflect.Slice:
		var items []string
		for i := range value.Len() {
			items = append(items, yamlValue(value.Index(i)))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return fmt.Sprint(value.Interface())
}

// yamlString quotes text unless it is a plain word that nothing else could be meant by. The escapes used are YAML's too.
func yamlString(text string) string {
	plain := text != "" && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(text))
	for i, letter := range text {
		word := letter >= 'a' && letter <= 'z' || letter >= 'A' && letter <= 'Z'
		inside := i > 0 && (letter >= '0' && letter <= '9' || strings.ContainsRune("_-./", letter))
		plain = plain && (word || inside)
	}
	if plain {
		return text
	}
	var quoted strings.Builder
	quoted.WriteByte('"')
	for _, letter := range text {
		switch {
		case letter == '"' || letter == '\\':
			quoted.WriteByte('\\')
			quoted.WriteRune(letter)
		case letter == '\n':
			quoted.WriteString(`\n`)
		case letter == '\t':
			quoted.WriteString(`\t`)
		case letter < ' ':
			fmt.Fprintf(&quoted, `\x%02x`, letter)
		default:
			quoted.WriteRune(letter)
		}
	}
	quoted.WriteByte('"')
	return quoted.String()
}
