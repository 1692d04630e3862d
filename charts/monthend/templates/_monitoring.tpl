{{- /* The groups of files/alerts.yaml with the values of this release. Argument: dict "root" $ "namespaces" (list "monthend").
       Numbers and durations stand before `# limit: NAME` in the file, which is a comment of YAML and of PromQL. */ -}}
{{- define "monthend.alertRules" -}}
{{- $rule := .root.Values.monitoring.prometheusRule -}}
{{- $text := .root.Files.Get "files/alerts.yaml" -}}
{{- $limits := merge (dict "maxReplicas" .root.Values.notify.scaling.maxReplicas) $rule.limits -}}
{{- range $name, $value := $limits -}}
{{- $place := printf `\S+( # limit: %s)\b` $name -}}
{{- if not (regexMatch $place $text) -}}{{- fail (printf "files/alerts.yaml has no limit %s: remove monitoring.prometheusRule.limits.%s" $name $name) -}}{{- end -}}
{{- $text = regexReplaceAll $place $text (printf "%s${1}" ($value | toJson | trimAll `"`)) -}}
{{- end -}}
{{- $matcher := printf `namespace=%s"%s"` (len .namespaces | eq 1 | ternary "" "~") (join "|" .namespaces) -}}
{{- $text = $text | replace `namespace=~".+"` $matcher -}}
{{- with $rule.docsUrl -}}
{{- $text = $text | replace "runbook_url: docs/" (printf "runbook_url: %s/docs/" (trimSuffix "/" .)) -}}
{{- end -}}
{{- $known := list -}}
{{- $groups := list -}}
{{- range $group := (fromYaml $text).groups -}}
{{- $rules := list -}}
{{- range $alert := $group.rules -}}
{{- $known = append $known $alert.alert -}}
{{- if not (has $alert.alert $rule.disabled) -}}
{{- $rules = append $rules (set $alert "labels" (merge (dict) $alert.labels $rule.ruleLabels)) -}}
{{- end -}}
{{- end -}}
{{- with $rules -}}{{- $groups = append $groups (dict "name" $group.name "rules" .) -}}{{- end -}}
{{- end -}}
{{- range $rule.disabled -}}
{{- if not (has . $known) -}}{{- fail (printf "monitoring.prometheusRule.disabled names %s, which is no alert: there are %s" . (join ", " $known)) -}}{{- end -}}
{{- end -}}
{{- dict "groups" $groups | toYaml -}}
{{- end -}}

{{- /* Matchers of an Alertmanager file, such as alertname=~"A|B", as an AlertmanagerConfig writes them. */ -}}
{{- define "monthend.matchers" -}}
{{- range . }}
- name: {{ regexFind `^[a-z]+` . }}
  matchType: {{ regexFind `[=!~]+` . | quote }}
  value: {{ regexReplaceAll `^[a-z]+[=!~]+"(.*)"$` . "${1}" | quote }}
{{- end }}
{{- end -}}
