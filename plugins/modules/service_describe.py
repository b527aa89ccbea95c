#!/usr/bin/python
# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Describe services of a host; this file documents the action plugin of the same name, which does it all."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_describe
short_description: Describe services of a host
description:
  - Checks the variables of the role that uses it, renders the role's C(templates/) and adds the service to the host's
    plan, which C(service_compare) and its successors apply. Runs on the controller alone.
  - What all services have in common is read from the role's variables by their names, which are C(<name>_state),
    C(_image), C(_version), C(_port), C(_bind_address), C(_user), C(_memory), C(_cpus), C(_extra_arguments),
    C(_extra_environment), C(_extra_groups), C(_extra_labels), C(_extra_mounts) and C(_extra_files).
  - A service with a port uses the host's network, one without has none.
  - With I(services) it describes what several roles of this collection describe, in one task. A task for each would
    take most of the time of a run that changes nothing. The tags of the run choose among them by their names.
author: ["nekocheik (@nekocheik)"]
options:
  services:
    description:
      - What is described instead, by the task of this module in C(tasks/describe.yml) of each role, with the role's
        defaults and variables. Excludes all other options.
    type: list
    elements: dict
    suboptions:
      hosts:
        description: The hosts that get the services of these roles; all, where there are none.
        type: list
        elements: str
      roles:
        description: Names of roles of this collection.
        type: list
        elements: str
        required: true
  name:
    description: Name of the service, of its role and of its container. Required without I(services).
    type: str
  command:
    description: Arguments after the image's entry point.
    type: list
    elements: str
    default: []
  entrypoint:
    description: Replaces the image's entry point.
    type: list
    elements: str
    default: []
  environment:
    description:
      - Environment variables. Never secrets, because everybody who may ask the engine can read them.
      - C(TZ) set to C(host) becomes the name of the host's time zone.
    type: dict
    default: {}
  groups:
    description: Further groups, by number or as C(path:/some/file) for the group that owns a file on the host.
    type: list
    elements: str
    default: []
  pid:
    description: C(host) for a service that sees the host's processes.
    type: str
    default: ""
  capabilities:
    description: Capabilities that are kept; all others are dropped.
    type: list
    elements: str
    default: []
  dbus:
    description:
      - Whether it asks the host's D-Bus. Where Docker's AppArmor profile is in force, which knows nothing of D-Bus, the
        bus refuses its messages; such a container goes without that profile.
    type: bool
    default: false
  read_only:
    description: Whether the container's root file system is read-only.
    type: bool
    default: true
  tmpfs:
    description: Path in the container to options of a file system in memory.
    type: dict
    default: {}
  mounts:
    description: Mounts with C(source), C(target), C(read_only) (true by default) and C(propagation).
    type: list
    elements: dict
    default: []
  directories:
    description: Directories that are made on the host.
    type: list
    elements: str
    default: []
  units:
    description:
      - Units of systemd that the tree has in C(units/), for what is no container. They are linked into systemd, and the
        timers among them are started. There is no image, container, check and readiness then.
    type: list
    elements: str
    default: []
  unwanted:
    description:
      - Files on the host, outside of the tree, that units left which are not wanted any more. They are removed. Only
        with I(units).
    type: list
    elements: str
    default: []
  initial:
    description:
      - Files on the host, outside of the tree, that units write, path to the text that they have before the first time;
        C(@now@) in it is the present time in seconds. One that is there is left alone. Only with I(units).
    type: dict
    default: {}
  stop_timeout:
    description: Seconds that the program may take to end.
    type: int
    default: 30
  config_target:
    description: Where the configuration tree is mounted in the container.
    type: str
  files:
    description: Files of the configuration tree besides the templates, path to text.
    type: dict
    default: {}
  dashboards:
    description:
      - Whether C(dashboards/) of the tree is put together from the role's and the user's dashboards, by the
        variables of the role grafana.
    type: bool
    default: false
  roster:
    description:
      - Path in the configuration tree of a list of the services that were described for the host before this one, with
        their images and how they show that they are ready. Where none was, the file that is there stays.
    type: str
  secrets:
    description: Files with a secret, path to C(variable), C(required) (true by default), C(min_length) and C(asked)
      (what a user is asked for, where the variable is made of others).
    type: dict
    default: {}
  secret_files:
    description: Name of a variable with the user's own secrets, file name to text; they are put into C(secrets/).
    type: str
  keep:
    description: Patterns of paths in the configuration tree that are the user's own.
    type: list
    elements: str
    default: []
  watched:
    description: Patterns of paths that the program re-reads by itself.
    type: list
    elements: str
    default: []
  data_target:
    description: Where the data directory is mounted in the container.
    type: str
  check:
    description: The program's own checker, C(entrypoint) and C(command) in the image.
    type: dict
  ports:
    description:
      - Ports that it takes besides C(<role>_port), the name of each one's variable to the address that it listens on.
        They are held against other services and other programs before anything is changed.
    type: dict
    default: {}
  ready:
    description: How it shows that it is ready, C(path) on its port, or C(path) and the host's C(socket).
    type: dict
    default: {}
  proof:
    description:
      - How it shows, after a rolling change, that it does its work again; questions with C(path), C(query), C(body),
        C(expect), C(user) and C(password_file), see C(plugins/module_utils/proof.py).
    type: list
    elements: dict
    default: []
  converted:
    description: Files of its data that a newer program converts; kept until a new container is proved.
    type: list
    elements: str
    default: []
  forward_only:
    description: Whether an older version may not be able to read what a newer one wrote.
    type: bool
    default: false
  reload:
    description:
      - How it reloads its configuration, C(signal) (C(HUP) by default), C(metric) (0 when it refused) and
        C(timestamp_metric) (moves when it succeeded). A service without it is restarted.
    type: dict
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Has no diff; C(service_compare) shows what differs.
    support: none
"""

EXAMPLES = r"""
- name: Describe blackbox_exporter
  nekocheik.deployment_monitoring.service_describe:
    name: blackbox_exporter
    command:
      - --config.file=/etc/blackbox_exporter/config.yml
    config_target: /etc/blackbox_exporter
    ready:
      path: /-/healthy

- name: Describe the services
  nekocheik.deployment_monitoring.service_describe:
    services:
      - hosts: "{{ monitoring_servers }}"
        roles: [prometheus, alertmanager]
      - roles: [node_exporter]
"""

RETURN = r"""
services:
  description: The names of the services.
  type: list
  elements: str
  returned: with I(services)
service:
  description: The name of the service.
  type: str
  returned: without I(services)
image:
  description: The reference of its image.
  type: str
  returned: without I(services)
files:
  description: The paths of its configuration tree.
  type: list
  elements: str
  returned: without I(services)
"""
