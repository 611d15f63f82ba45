"""Keys that Flink spreads evenly: by Flink's own count, the same from the JVM, for any number of instances."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py4j.java_gateway import JavaGateway

from deploy.classes import our_classes
from deploy.cluster import flink_python
from deploy.java import find_java
from streaming.placing import GROUPS, key_group, number_of, placed

NAMES = st.text(min_size=1, max_size=20)
TOPICS = st.from_regex(r"logs\.[a-z0-9._-]{1,20}/", fullmatch=True)


@pytest.fixture(scope="module")
def jvm():
    """A JVM with Flink and the classes of ``deploy/java``."""
    java = find_java()
    flink = [str(jar) for jar in sorted((flink_python().parent.parent / "lib").glob("*.jar"))]
    path = ":".join([str(our_classes(java, flink_python())), *flink])
    gateway = JavaGateway.launch_gateway(classpath=path, java_path=str(java.binary), die_on_exit=True)
    yield gateway.jvm
    gateway.shutdown()


@settings(deadline=None)
@given(NAMES)
def test_key_groups_are_flinks(jvm, name):
    row = jvm.org.apache.flink.types.Row(1)
    row.setField(0, name)
    flinks = jvm.org.apache.flink.runtime.state.KeyGroupRangeAssignment.assignToKeyGroup(row, GROUPS)
    assert key_group(name) == flinks == jvm.logcanary.KeyPlace.group(name)


@settings(deadline=None)
@given(TOPICS, st.integers(0, 300))
def test_the_jvm_makes_the_same_keys(jvm, stem, number):
    key = placed(stem, number)
    assert jvm.logcanary.KeyPlace().key(stem, number) == key
    assert key.startswith(stem)
    assert number_of(key.removeprefix(stem)) == number


@settings(deadline=None)
@given(TOPICS, st.sampled_from([2, 4, 8, 16, 32]), st.sampled_from([2, 4, 8]))
def test_keys_of_a_stem_are_spread_evenly(stem, keys, instances):
    held = Counter(key_group(placed(stem, number)) * instances // GROUPS for number in range(keys))
    assert max(held.values()) == -(-keys // instances)
    assert len({placed(stem, number) for number in range(keys)}) == keys


def test_many_stems_with_one_key_each_are_spread_too():
    held = Counter(key_group(placed(f"logs.service-{i}/", 0)) * 4 // GROUPS for i in range(400))
    assert all(60 < number < 140 for number in held.values()), held
