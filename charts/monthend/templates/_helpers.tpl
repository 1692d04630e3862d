{{- define "monthend.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The labels of selectors, which never change over upgrades. Argument: dict "root" $ "component" "operator". */ -}}
{{- define "monthend.selectorLabels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "monthend.labels" -}}
{{ include "monthend.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: monthend
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "monthend.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "monthend.timeZone" -}}
{{- if not .Values.timeZone }}{{ fail "timeZone is not set: name the time zone of billing months, e.g. --set timeZone=Asia/Seoul; it is written into the database by the first migration and never changes" }}{{ end -}}
{{- .Values.timeZone -}}
{{- end -}}

{{- define "monthend.currency" -}}
{{- if not .Values.currency }}{{ fail "currency is not set: name the ISO 4217 code of every amount, e.g. --set currency=KRW; it is written into the database by the first migration and never changes" }}{{ end -}}
{{- .Values.currency -}}
{{- end -}}

{{- define "monthend.databaseSecret" -}}
{{- if .Values.database.existingSecret -}}
{{- .Values.database.existingSecret -}}
{{- else if .Values.devStack.enabled -}}
monthend-database
{{- else -}}
{{- fail "database.existingSecret is not set: name a Secret of this namespace with the keys migrate-url, operator-url and worker-url (postgres://ROLE:PASSWORD@HOST:5432/DATABASE), or set devStack.enabled=true for a development database" -}}
{{- end -}}
{{- end -}}

{{- define "monthend.encryptionSecret" -}}
{{- if .Values.encryption.existingSecret -}}
{{- .Values.encryption.existingSecret -}}
{{- else if .Values.devStack.enabled -}}
monthend-encryption
{{- else -}}
{{- fail "encryption.existingSecret is not set: name a Secret of this namespace with an entry for each key id (32 bytes, base64) and `active`, the id of the key that encrypts" -}}
{{- end -}}
{{- end -}}

{{- define "monthend.brokers" -}}
{{- if .Values.kafka.brokers -}}
{{- .Values.kafka.brokers -}}
{{- else if .Values.devStack.enabled -}}
{{ include "monthend.fullname" . }}-kafka.{{ .Release.Namespace }}.svc:9092
{{- else -}}
{{- fail "kafka.brokers is not set: name Kafka's brokers as HOST:PORT, separated by commas, or set devStack.enabled=true for a development broker" -}}
{{- end -}}
{{- end -}}

{{- define "monthend.transport" -}}
{{- if .Values.notify.transport -}}
{{- .Values.notify.transport -}}
{{- else if .Values.devStack.enabled -}}
smtp://{{ include "monthend.fullname" . }}-mail:1025
{{- else -}}
{{- fail "notify.transport is not set: name the mail server, e.g. --set notify.transport=smtp://mail.example.com:587?tls=required, or mock:// to send nothing, or set devStack.enabled=true for a development mail server" -}}
{{- end -}}
{{- end -}}

{{- /* The environment of every program that uses Kafka. */ -}}
{{- define "monthend.kafkaEnv" -}}
{{- if eq .Values.kafka.topic .Values.kafka.dlqTopic }}{{ fail (printf "kafka.topic and kafka.dlqTopic are both %s: name another topic for the messages that no consumer can use" .Values.kafka.topic) }}{{ end -}}
- name: KAFKA_BROKERS
  value: {{ include "monthend.brokers" . | quote }}
- name: KAFKA_TOPIC
  value: {{ .Values.kafka.topic | quote }}
- name: KAFKA_DLQ_TOPIC
  value: {{ .Values.kafka.dlqTopic | quote }}
- name: KAFKA_GROUP
  value: {{ .Values.kafka.group | quote }}
- name: KAFKA_PARTITIONS
  value: {{ .Values.kafka.partitions | quote }}
- name: KAFKA_REPLICATION
  value: {{ .Values.kafka.replicationFactor | quote }}
- name: KAFKA_RETENTION_HOURS
  value: {{ .Values.kafka.retentionHours | quote }}
{{- end -}}

{{- /* What the `restricted` Pod Security profile requires. 65532 is the image's user. */ -}}
{{- define "monthend.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- /* The same for pods of the development stack, whose images have another user. */ -}}
{{- define "monthend.devSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
# Ownership is set once: PostgreSQL rejects a data folder that the group may write.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "monthend.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
