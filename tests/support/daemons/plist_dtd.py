"""The grammar of property lists, version 1.0, for a validating parser."""

import io

from lxml import etree

GRAMMAR = """
<!ENTITY % value "(array|data|date|dict|real|integer|string|true|false)">
<!ELEMENT plist %value;>
<!ATTLIST plist version CDATA "1.0">
<!ELEMENT dict (key, %value;)*>
<!ELEMENT array (%value;)*>
<!ELEMENT key (#PCDATA)>
<!ELEMENT string (#PCDATA)>
<!ELEMENT data (#PCDATA)>
<!ELEMENT date (#PCDATA)>
<!ELEMENT real (#PCDATA)>
<!ELEMENT integer (#PCDATA)>
<!ELEMENT true EMPTY>
<!ELEMENT false EMPTY>
"""


def faults(data):
    """What a property list breaks of the grammar; empty if it is valid."""
    dtd = etree.DTD(io.StringIO(GRAMMAR))
    parser = etree.XMLParser(load_dtd=False, no_network=True, resolve_entities=False)
    document = etree.fromstring(data, parser)
    return [] if dtd.validate(document) else [str(error) for error in dtd.error_log]
